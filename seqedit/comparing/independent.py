"""Batches that do not build on one another: each is computed on the unedited model and scored on its own facts.

The tables of single edits in the papers are made like this (batch size 1). Every finished batch is one line of a
JSON-lines file, so that an interrupted comparison continues where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.scores.counterfact import score_records
from evals.scores.probes import ProbeScore
from evals.scores.scores import PromptScore, RecordScore, Scores
from seqedit.editing.editor import Editor
from seqedit.editing.rule import Recorded, settle
from seqedit.editing.settings import Given
from seqedit.errors import CheckFailed, NumericsError
from seqedit.facts.requests import Record, requests_of
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import moments_provider
from seqedit.runs.config import RunConfig
from seqedit.runs.settling import OnSettled, log_settled, settings_of
from seqedit.support.digests import json_digest
from seqedit.support.progress import progress_bar


@dataclass(frozen=True)
class IndependentScores:
    """What a method does to batches that are edited one by one.

    Attributes:
        scores: Scores of all facts, each under the model that holds its own batch only.
        seconds: Time of the edits.
        failed: Batches that the method could not compute; they are scored on the unedited model.
    """

    scores: Scores
    seconds: float
    failed: int


def score_independent(
    config: RunConfig, edited: EditedModel, batches: Sequence[Sequence[Record]], place: Path, *, resume: bool,
    told: OnSettled = log_settled,
) -> IndependentScores:  # fmt: skip
    """Edit and score every batch from the unedited model, which is written back at the end.

    Args:
        config: Method and settings.
        edited: The model.
        batches: Records of each batch.
        place: JSON-lines file of the finished batches.
        resume: Keep what the file holds; else it is begun anew.
        told: Called with the settings that the configuration left open, once they are settled for the model.

    Raises:
        CheckFailed: the file holds other batches than these.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    config, noted = _settled(config, edited, place if resume else None, told)
    done = _read(place, config, edited, batches) if resume and place.is_file() else []
    if not done:
        place.unlink(missing_ok=True)
    try:
        for row in _rows(config, edited, batches, len(done)):
            row |= {"noted": noted} if noted else {}
            with place.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            done.append(row)
    finally:
        edited.write({})
    records = tuple(_record(r) for row in done for r in row["records"])
    return IndependentScores(Scores(records), sum(r["seconds"] for r in done), sum(bool(r["failed"]) for r in done))


def _settled(
    config: RunConfig, edited: EditedModel, place: Path | None, told: OnSettled
) -> tuple[RunConfig, dict[str, Any]]:
    """The configuration with all settings, those that the file's batches were edited with if it has any."""
    if not isinstance(config.settings, Given):
        return config, {}
    recorded = []
    if place is not None and place.is_file():
        try:
            row = json.loads(place.read_bytes().splitlines()[0].decode())
            settings = dict(row["settings"])
            recorded.append(Recorded({"name": settings.pop("method"), **settings}, row.get("noted", {})))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            pass  # cut short, or none of ours: what reads the whole file says so
    edited.write({})
    found = settle(
        config.settings, Editor(edited, moments_provider(edited, config.second_moments, name=config.model)), recorded
    )
    told(found)
    return replace(config, settings=found.config), found.provenance()


def _rows(
    config: RunConfig, edited: EditedModel, batches: Sequence[Sequence[Record]], start: int
) -> Iterator[dict[str, Any]]:
    if start == len(batches):
        return
    edited.write({})
    editor = Editor(
        edited, moments_provider(edited, config.second_moments, name=config.model),
        context_templates=config.context_templates, seed=config.seed,
    )  # fmt: skip
    _ = editor.context_templates  # sampled before the clock of the first batch starts
    with progress_bar(f"{config.title}: batches one by one", len(batches) - start) as bar:
        for number in range(start, len(batches)):
            batch, failed = batches[number], ""
            begin = time.perf_counter()
            try:
                adapter = editor.compute(requests_of(batch), config.method, settings_of(config.settings))
                seconds = time.perf_counter() - begin
                edited.apply([adapter])
                scores = score_records(edited.model, edited.tokenizer, batch)
            except NumericsError as error:  # of the edit, or of the model that it leaves behind
                seconds, failed = time.perf_counter() - begin, str(error)
                edited.write({})
                scores = score_records(edited.model, edited.tokenizer, batch)
            edited.write({})
            yield {
                "requests": [record.request.digest() for record in batch],
                "settings": {"method": config.method, **settings_of(config.settings).to_dict()},
                "records_digest": json_digest([record.to_dict() for record in batch]),
                "base": _base(config, edited),
                "seconds": seconds,
                "failed": failed,
                "records": scores.to_dict()["records"],
            }
            bar.advance()


def _base(config: RunConfig, edited: EditedModel) -> dict[str, Any]:
    """What a batch is computed on besides its method's settings, as JSON types."""
    source = {name: getattr(config.second_moments, name) for name in ("max_tokens", "sequence_length", "per_dimension")}
    return {
        "model": edited.base_model.fingerprint, "seed": config.seed, "context_templates": config.context_templates,
        "second_moments": source,
    }  # fmt: skip


def _read(
    place: Path, config: RunConfig, edited: EditedModel, batches: Sequence[Sequence[Record]]
) -> list[dict[str, Any]]:
    """Finished batches; a last line that was cut short is dropped."""
    rows: list[dict[str, Any]] = []
    lines = place.read_bytes().splitlines(keepends=True)  # not as text: the last may be cut off within a letter
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line.decode())
            settings = json.loads(json.dumps({"method": config.method, **settings_of(config.settings).to_dict()}))
            expected = [r.request.digest() for r in batches[len(rows)]] if len(rows) < len(batches) else None
            same = row["requests"] == expected and row["settings"] == settings
            if same and "records_digest" in row:  # earlier versions did not note these
                records = json_digest([record.to_dict() for record in batches[len(rows)]])
                base = json.loads(json.dumps(_base(config, edited)))
                same = row["records_digest"] == records and row["base"] == base
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckFailed(
                f"{place}, line {number}: not readable ({error}); start again without --resume"
            ) from error
        if not same:
            raise CheckFailed(
                f"{place}, line {number}: other facts or settings than now; start again without --resume, or "
                "choose another 'out'"
            )
        rows.append(row)
    kept = b"".join(lines[: len(rows)])
    if kept != b"".join(lines):
        place.write_bytes(kept)
    return rows


def _record(data: dict[str, Any]) -> RecordScore:
    def prompts(name: str) -> tuple[PromptScore, ...]:
        return tuple(PromptScore(**prompt) for prompt in data[name])

    return RecordScore(data["case_id"], prompts("rewrite"), prompts("paraphrase"), prompts("neighborhood"),
                       tuple(ProbeScore.from_dict(p) for p in data.get("probes", ())))  # fmt: skip
