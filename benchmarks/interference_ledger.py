"""The same question asked of a finished run: its ledger has the keys as they were written, and what was right then.

What is missing there, whether each fact still is right at the end, is scored with the model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evals.scores.counterfact import score_records
from ledger import Entry, Ledger
from seqedit.editing.compute import protects_earlier
from seqedit.editing.editor import Editor
from seqedit.editing.loading import Loading
from seqedit.errors import InputError
from seqedit.facts.requests import Record, Request
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings, moments_provider
from seqedit.planning.interference import cosines, largest_over_layers
from seqedit.planning.order import in_file_order, later
from seqedit.scoring.kinds import KIND_RECORDS
from seqedit.solver.protected_keys import ProtectedKeys

MEASURES = ("solver", "raw", "at_step")
"""Cosines to later keys: of the solver before the first batch, plain, and of the solver as each later batch met it."""


@dataclass(frozen=True, eq=False)
class Written:
    """A batch that a run wrote.

    Attributes:
        requests: Its n facts.
        right: Of each, whether it was right just after.
        keys: Module name -> (n, d_in) float64.
    """

    requests: tuple[Request, ...]
    right: tuple[bool, ...]
    keys: dict[str, Tensor]


def ledger_rows(
    place: str, branch: str | None, *, model: str | None, text: str | None, tokens: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for every fact of a run, as `benchmarks.interference.fitted` takes them, and what the run was.

    Args:
        place: The ledger; only read.
        branch: The run's branch; None for HEAD's.
        model: Where its base model is; None for where it was.
        text: Text of the run's second moments; None for the model's own.
        tokens: Their sample size.

    Raises:
        InputError: a ledger of another kind of history, one whose run did not score its facts, or second moments
            that are not those of the run.
    """
    with Ledger.open(place) as ledger:
        history = ledger.log(branch or "HEAD")[::-1]
        batches = [entry for entry in history if entry.adapter is not None]
        other = next((entry for entry in history[1:] if entry.operation != "edit"), None)
        if other is not None:
            raise InputError(f"{place}: entry {other.id[:12]} is a {other.operation}; only plain edits can be asked")
        if not batches:
            raise InputError(f"{place}: no edits")
        edited = Loading(model).load(ledger.base_model.name)
        if edited.base_model.fingerprint != ledger.base_model.fingerprint:
            raise InputError(f"{place}: made on another model than {edited.base_model.name}; give it with --model")
        method, config = str(batches[0].method["name"]), _config(batches)
        moments = SecondMomentSettings(text=text, max_tokens=tokens)
        editor = Editor(edited, moments_provider(edited, moments), context_templates=[["{}"]])
        _check_moments(ledger, batches[0], editor, config)
        written = [_written(ledger, entry) for entry in batches]
        edited.write(ledger.compose(edited.base, batches[-1].id, only_changed=True))
        requests = [request for batch in written for request in batch.requests]
        kept = _right(edited, requests)
        edited.write({})
        found = _cosines(editor, method, config, written)
        current = {(entry, i) for entry, live in ledger.live_requests(batches[-1].id).items() for i in live}
    ids = [(entry.id, i) for entry, batch in zip(batches, written, strict=True) for i in range(len(batch.requests))]
    numbers = [number for number, batch in enumerate(written, 1) for _ in batch.requests]
    right = [one for batch in written for one in batch.right]
    rows: list[dict[str, Any]] = [
        {
            "seed": 0, "order": "file", "batch": numbers[i], "position": i,
            "after": sum(number > numbers[i] for number in numbers), "right": right[i], "kept": right[i] and kept[i],
            "kept_at_all": kept[i], **{name: values[i] for name, values in found.items()},
        }
        for i in range(len(ids)) if ids[i] in current
    ]  # fmt: skip
    told = {
        "method": method, "protected": protects_earlier(config),
        "weight": config.to_dict().get(config.written_by or ""),
        "batches": len(written), "facts": len(rows), "right": sum(row["right"] for row in rows),
        "kept": sum(row["kept"] for row in rows), "model": edited.base_model.name, "state": batches[-1].id,
    }  # fmt: skip
    print(f"{place}: {told['kept']} of {told['right']} kept", file=sys.stderr, flush=True)
    return rows, told


def _config(batches: Sequence[Entry]) -> ClosedFormConfig:
    first = dict(batches[0].method)
    if any(dict(entry.method) != first for entry in batches):
        raise InputError("the batches were not all written with the same settings")
    name = first.pop("name")
    config = get_method(str(name)).config.from_dict(first)
    if not isinstance(config, ClosedFormConfig):
        raise InputError(f"method '{name}' is no closed form; its keys are not solved for")
    return config


def _check_moments(ledger: Ledger, entry: Entry, editor: Editor, config: ClosedFormConfig) -> None:
    """Cosines in another C than the run's would be another question."""
    recorded = ledger.adapter(entry.id).provenance.get("second_moments")
    assert callable(editor.moments)
    found = editor.moments(tuple(sorted(config.layers)))
    if recorded is not None and found.digest != recorded:
        raise InputError(
            f"entry {entry.id[:12]} was solved with other second moments than these ({found.tokens} tokens; the run "
            f"had {ledger.adapter(entry.id).provenance.get('second_moment_tokens')}); give its --text and --tokens"
        )


def _written(ledger: Ledger, entry: Entry) -> Written:
    adapter, records = ledger.adapter(entry.id), ledger.scores(entry.id, KIND_RECORDS).get(KIND_RECORDS, {})
    rows = records.get("records", [])
    if [row["rewrite"][0]["prompt"] for row in rows] != [request.text for request in entry.requests]:
        raise InputError(f"entry {entry.id[:12]}: its facts were not all scored just after it")
    if any(len(keys) != len(entry.requests) for keys in adapter.keys.values()) or not adapter.keys:
        raise InputError(f"entry {entry.id[:12]}: it does not have one key a fact")
    right = tuple(bool(row["rewrite"][0]["argmax_correct"]) for row in rows)
    return Written(tuple(entry.requests), right, {name: keys.double() for name, keys in adapter.keys.items()})


def _right(edited: EditedModel, requests: Sequence[Request]) -> list[bool]:
    """Whether the new answer is the argmax (EM)."""
    bare = [Record(request) for request in requests]
    return [value == 1 for value in score_records(edited.model, edited.tokenizer, bare).values("EM")]


def _cosines(
    editor: Editor, method: str, config: ClosedFormConfig, written: Sequence[Written]
) -> dict[str, list[float | None]]:
    """Measure -> of every fact the largest cosine to a later key."""
    sizes = [len(batch.requests) for batch in written]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    batches = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
    if not config.solved_together:
        batches = in_file_order(sum(sizes), 1)
    plain: dict[str, Tensor] = {}
    solver: dict[str, Tensor] = {}
    stepwise: dict[str, Tensor] = {}
    for projection in editor.edited.parts.projections_of(config.layers):
        name = projection.name
        inner = editor.preconditioner(method, config, projection)
        assert inner is not None
        keys = torch.cat([batch.keys[name] for batch in written])
        plain[name], solver[name] = cosines(keys, keys), cosines(keys, keys, inner)
        stepwise[name] = solver[name]
        if protects_earlier(config):
            held, stepwise[name] = ProtectedKeys(inner), torch.zeros(len(keys), len(keys), dtype=torch.float64)
            for batch in batches[1:]:
                before = keys[: batch[0]]
                stepwise[name][: batch[0], batch] = cosines(before, keys[batch], held.protect(before))
    tables = {"solver": solver, "raw": plain, "at_step": stepwise}
    return {name: later(largest_over_layers(table), batches)[0] for name, table in tables.items()}
