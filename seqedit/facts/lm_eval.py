"""Documents of the task files in evals/lm_tasks: records of a file or of the Hub, and the demo world's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqedit.errors import InputError
from seqedit.facts.requests import Record

if TYPE_CHECKING:
    import datasets

RECORDS_VARIABLE = "SEQEDIT_RECORDS"
"""Environment variable with the records of the fact tasks, where lm-eval's metadata names none."""


def facts(
    *,
    groups: str,
    default: str | None = None,
    records: str | None = None,
    records_split: str = "train",
    zsre: str = "mend",
    skip_unusable: bool = False,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """One document per record that has a prompt of these groups.

    lm-eval calls this with the task file's ``dataset_kwargs`` and with its metadata, which ``--metadata`` gives.

    Args:
        groups: Which prompts: letters of E (the edited prompt), P (paraphrases), N (neighbours).
        default: Records where neither ``records`` nor the environment variable `RECORDS_VARIABLE` names any.
        records: As `seqedit.load_records` takes them.
        records_split: Which split of a dataset.
        zsre: What zsRE records teach, `seqedit.load_records`.
        skip_unusable: Leave out records that cannot be used, and log which and why.

    Returns:
        The split "test".

    Raises:
        InputError: no records are named, or none has such a prompt.
        RequestError: a record is unusable.
        EnvironmentFailure: the Hub cannot be reached.
    """
    import datasets

    from seqedit.facts.loading import load_records

    source = records or os.environ.get(RECORDS_VARIABLE) or default
    if source is None:
        raise InputError(
            f"this task has no records of its own; name a file or a Hub dataset with {RECORDS_VARIABLE}=FILE, "
            'or --metadata \'{"records": "FILE"}\''
        )
    documents = []
    for index, record in enumerate(
        load_records(str(source), split=records_split, zsre=zsre, skip_unusable=skip_unusable)
    ):
        prompts = list(_prompts(record, groups))
        if prompts:
            case = record.request.case_id
            # An Arrow column has one type; ids are integers in some files and strings in others.
            documents.append({"case_id": str(index if case is None else case), "prompts": prompts})
    if not documents:
        raise InputError(f"{source}: no record has a prompt of the kind this task scores ({groups})")
    return {"test": datasets.Dataset.from_list(documents, features=_features())}


def demo_documents(*, demo_task: str, **_: Any) -> dict[str, datasets.Dataset]:
    """The demo world's documents of a task (`seqedit.demo.TASKS`), as the split "validation"."""
    import json

    import datasets

    from seqedit.demo.location import demo_file

    lines = demo_file(f"tasks/{demo_task}.jsonl").read_text("utf-8").splitlines()
    return {"validation": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def _prompts(record: Record, groups: str) -> Iterator[dict[str, str | None]]:
    request = record.request

    def row(group: str, prompt: str, true: str | None) -> dict[str, str | None]:
        return {"group": group, "prompt": prompt, "target_new": request.target_new, "target_true": true}

    if "E" in groups:
        yield row("E", request.text, request.target_true)
    if "P" in groups:
        for prompt in record.paraphrase_prompts:
            yield row("P", prompt, request.target_true)
    if "N" in groups:
        for neighbor in record.neighborhood_prompts:
            true = request.target_true if neighbor.target_true is None else neighbor.target_true
            if true is not None:  # else nothing is known that should have stayed
                yield row("N", neighbor.prompt, true)


def _features() -> datasets.Features:
    """Columns by name and type: where every true target is None, Arrow could not tell the type."""
    import datasets

    text = datasets.Value("string")
    fields = ("group", "prompt", "target_new", "target_true")
    return datasets.Features({"case_id": text, "prompts": datasets.List(dict.fromkeys(fields, text))})
