"""Files of other kinds that are given where facts are wanted: what they are, and which verb reads them.

Nothing here is needed to read a file; it only makes the message of one that cannot be read say what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Row = Mapping[str, Any]

_MAGIC = (
    (b"SQLite format 3\0", "an SQLite database, as a ledger has: name the ledger's folder with --ledger"),
    (b"GGUF", "a GGUF model: --model takes it"),
    (b"PAR1", "a Parquet file: give it the ending .parquet and it is read"),
    (b"ARROW1", "an Arrow file: it is read as the folder that save_to_disk wrote, or as Parquet"),
    (b"PK\x03\x04", "a zip archive; if it is a bundle, `seqedit import FILE` reads it"),
    (b"\x1f\x8b", "gzip-compressed: unpack it"),
    (b"BZh", "bzip2-compressed: unpack it"),
    (b"\xfd7zXZ", "xz-compressed: unpack it"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
)
_TABLE = re.compile(rb"\s*[\w \"'-]+([,;\t])[^\r\n{}\[\]]*(?:\r?\n|$)")
_COLUMNS = {
    "subject", "prompt", "target_new", "src", "alt", "target_true", "answers", "question", "answer", "sentence", "label"
}  # fmt: skip
MQUAKE, RIPPLE = "MQuAKE", "RippleEdits"
"""Benchmarks of cases."""


def what_bytes_are(path: Path) -> str | None:
    """What a file is that is no text with records in it, by how it begins; None for what is not known."""
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError:
        return None
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if path.suffix == ".safetensors" or (len(head) > 9 and head[8:9] == b"{" and not any(head[4:8])):
        return "a safetensors file, of an adapter or of second moments (--adapter takes the adapter's folder)"
    return None


def what_text_is(path: Path) -> str | None:
    """What a text is that is not JSON: a YAML file of this program's, or a table; None for what is not known."""
    try:
        head = path.read_bytes()[:1_000_000]
        text = head.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    if len(head) < 100_000:
        try:
            found = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            found = None
        if isinstance(found, Mapping) and (what := _settings(found)) is not None:
            return what
    return _table(head)


def _table(head: bytes) -> str | None:
    match = _TABLE.match(head)
    if match is None:
        return None
    comma = match[1].decode()
    names = {name.strip(" \"'\r\n").lower() for name in match[0].decode("utf-8", "replace").split(comma)}
    if not names & _COLUMNS:
        return None
    kind = "a tab-separated table" if comma == "\t" else "a CSV table"
    return f"{kind}: write it as JSON lines or Parquet, one record a row with the same columns"


def what_folder_is(path: Path) -> str | None:
    """What a folder is that is no saved dataset; None for what is not known."""
    there: Iterable[tuple[str, str]] = (
        ("adapter_config.json", "a PEFT adapter: --adapter takes it"),
        ("ledger.db", "a ledger: --ledger takes it"),
        ("mend_config.json", "a MEND hypernetwork: --set hypernetwork=FOLDER takes it"),
        ("config.json", "a model: --model takes it"),
        ("tokenizer_config.json", "a tokenizer"),
    )
    return next((what for name, what in there if (path / name).exists()), None)


def _settings(value: Row) -> str | None:
    """What a mapping of settings is."""
    if "model" in value and "facts" in value:
        verb = "compare" if "methods" in value else "run"
        return f"the configuration of a {'comparison' if verb == 'compare' else 'run'}: `seqedit {verb} FILE` reads it"
    if isinstance(value.get("model"), Mapping) and "common" in value:
        return "a preset: --preset takes it"
    if "layers" in value and ("alg_name" in value or "method" in value or "v_lr" in value or "settings" in value):
        return "a file of hyperparameters or a preset: --hparams or --preset takes it"
    if "task" in value and ("dataset_path" in value or "doc_to_text" in value):
        return "a task of lm-eval: --task takes tasks"
    return None


def _object(value: Row) -> str | None:
    """What one JSON object is that is no list of records."""
    if "peft_type" in value:
        return "the configuration of a PEFT adapter: --adapter takes its folder"
    if isinstance(value.get("results"), Mapping) and any(name in value for name in ("configs", "versions", "n-shot")):
        return "results of lm-eval: they are read by no verb; --task NAME=FILE scores a task's documents"
    if "architectures" in value or ("model_type" in value and "vocab_size" in value):
        return "the configuration of a model: --model takes its folder"
    if "added_tokens" in value and "model" in value:
        return "a tokenizer"
    if "steps" in value and "forgetting" in value:
        return "the summary of a run: `seqedit report --summary FILE` reads it"
    if "effects" in value and "suggested" in value:
        return "what `seqedit locate` wrote"
    return _settings(value)


def what_rows_are(rows: Sequence[Any]) -> str | None:
    """What a file's rows are that are no facts, all of them; None for facts, and for what is not known."""
    found = [row for row in rows if isinstance(row, Mapping)]
    if not found:
        return None
    if len(found) == 1 and (what := _object(found[0])) is not None:
        return what
    return next((what for is_one, what in _ROWS if all(is_one(row) for row in found)), None)


def is_mquake(row: Row) -> bool:
    """Whether a row is a case of MQuAKE: several rewrites, and questions about the end of a chain."""
    return isinstance(row.get("requested_rewrite"), list) and ("questions" in row or "new_answer" in row)


def is_ripple(row: Row) -> bool:
    """Whether a row is a case of RippleEdits."""
    criteria = ("Compositionality_I", "Logical_Generalization", "Forgetfulness", "example_type")
    return isinstance(row.get("edit"), Mapping) and any(name in row for name in criteria)


def _is_sample(row: Row) -> bool:
    return "doc_id" in row and ("resps" in row or "filtered_resps" in row or "arguments" in row)


def _is_snippet(row: Row) -> bool:
    return "relation_id" in row and "target_id" in row and "samples" in row


def _is_document(row: Row) -> bool:
    return "label" in row and any(name in row for name in ("sentence", "sentence1", "premise", "question1"))


def _is_task(row: Row) -> bool:
    return "label" in row and "question" in row and "subject" not in row


def _is_text(row: Row) -> bool:
    return list(row) == ["text"]


_DOCUMENTS = "documents of an lm-eval task: --task NAME=FILE takes them"
_ROWS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (
        is_mquake,
        f"cases of {MQUAKE}, chains of facts: `seqedit benchmark mquake --records FILE` reads them, and with --method "
        "edits their rewrites",
    ),
    (
        is_ripple,
        f"cases of {RIPPLE}: `seqedit benchmark ripple --records FILE` reads them, and with --method makes their edits",
    ),
    (_is_sample, "samples that lm-eval has logged: they are read by no verb"),
    (_is_snippet, "CounterFact's attribute snippets: a run's evals.attribute_snippets takes them"),
    (_is_document, _DOCUMENTS),
    (_is_task, _DOCUMENTS),
    (_is_text, "plain text: --text takes it"),
)
