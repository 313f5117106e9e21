"""The facts of a run: read as its configuration says, cut into batches, and told from those that were edited before."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ledger import Entry
from seqedit.errors import InputError
from seqedit.facts.files import FactFile, shown_name
from seqedit.facts.loading import read_facts
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Record, check_batch, requests_of
from seqedit.facts.snippets import read_attribute_snippets
from seqedit.runs.config import RunConfig

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FactSet:
    """What one file, or another source, gives.

    Attributes:
        file: The file; its name is what messages call the source.
        records: Its records.
        recorded: Name and digest, as entries keep them; empty where the source is no local file.
        skipped: What was left out as unusable; None for nothing.
    """

    file: FactFile
    records: tuple[Record, ...]
    recorded: Mapping[str, str] = field(default_factory=dict)
    skipped: Skipped | None = None


@dataclass(frozen=True)
class FactBatch:
    """A batch of a run.

    Attributes:
        records: Its records.
        title: How messages of its entries begin.
        source: What they come from.
    """

    records: tuple[Record, ...]
    title: str
    source: FactSet

    @property
    def file(self) -> Mapping[str, str]:
        """What an entry keeps of the file they come from; empty for no file."""
        return self.source.recorded

    @property
    def noted(self) -> dict[str, Any]:
        """What its adapter records of the records of its source that were left out."""
        return {} if self.source.skipped is None else {"skipped": self.source.skipped.to_dict()}


def load_facts(config: RunConfig) -> list[Record]:
    """All records of ``config.facts``, by its zsRE convention and with its attribute snippets.

    Raises:
        InputError: a file is missing or unusable; nothing is read half.
    """
    sets = load_sets(config)
    for part in sets:
        if part.skipped is not None:
            _LOG.warning("%s", part.skipped)
    return [record for part in sets for record in part.records]


def load_sets(config: RunConfig) -> list[FactSet]:
    """What each of a run's files holds, in their order; errors as for `load_facts`."""
    chosen = config.evals.attribute_snippets
    snippets = None if chosen is None else read_attribute_snippets(chosen)
    files = config.files
    if files is None:
        files = (FactFile(config.facts, shown_name(config.facts)),)
    found = []
    for file in files:
        recorded = file.record()  # before it is read: a file that changes meanwhile is then seen as changed
        read = read_facts(file.path, zsre=config.zsre, snippets=snippets, skip_unusable=config.skip_unusable)
        skipped = None if read.skipped is None else replace(read.skipped, source=file.name)
        found.append(FactSet(file, tuple(_framed(file.told(read.records), config)), recorded, skipped))
    return found


def given_set(config: RunConfig, records: Sequence[Record]) -> FactSet:
    """Records that a caller gives instead of a file."""
    return FactSet(FactFile(config.facts, config.facts), tuple(_framed(records, config)))


def _framed(records: Iterable[Record], config: RunConfig) -> list[Record]:
    """Records as they are put to the run's model."""

    def tokenizer() -> Any:
        from seqedit.models.loading import load_tokenizer  # with a chat template alone

        return load_tokenizer(config.model)

    return config.framing.of(records, tokenizer)


def batches_of(facts: Sequence[Record], config: RunConfig) -> list[list[Record]]:
    """The batches of a run on one source; errors as for `batches_of_sets`."""
    return [list(batch.records) for batch in batches_of_sets([given_set(config, facts)], config)]


def batches_of_sets(sets: Sequence[FactSet], config: RunConfig) -> list[FactBatch]:
    """The batches of a run: each of facts of one file.

    Raises:
        InputError: too few facts, or a batch that holds a fact twice; names it.
    """
    found: list[FactBatch] = []
    for part in sets:
        records = list(part.records)
        if config.shuffle:
            records = random.Random(config.seed).sample(records, len(records))
        if config.files is None and config.steps is not None:
            records = _as_many(records, config)
        found += cut(part, records, config)
    if config.files is not None and config.steps is not None:
        if len(found) < config.steps:
            raise InputError(f"field 'steps' asks for {config.steps} batches, the facts give {len(found)}")
        found = found[: config.steps]
    return found


def _as_many(records: Sequence[Record], config: RunConfig) -> list[Record]:
    assert config.steps is not None
    wanted = config.steps * config.batch_size
    if len(records) < wanted:
        raise InputError(
            f"{config.facts} holds {len(records)} records, {config.steps} steps of {config.batch_size} need {wanted}"
        )
    return list(records[:wanted])


def cut(part: FactSet, records: Sequence[Record], config: RunConfig) -> list[FactBatch]:
    """Records of one file as batches.

    Raises:
        InputError: a batch holds a fact twice; names it.
    """
    size = len(records) if config.whole_files else config.batch_size
    pieces = [tuple(records[i : i + size]) for i in range(0, len(records), size)]
    return titled(part, pieces, config)


def titled(part: FactSet, pieces: Sequence[Sequence[Record]], config: RunConfig) -> list[FactBatch]:
    """Batches of one file with their messages, checked; errors as for `cut`."""
    found = []
    for number, piece in enumerate(pieces, 1):
        try:
            check_batch(requests_of(piece))
        except InputError as error:
            where = config.facts if config.files is None else part.file.name
            raise InputError(f"{where}, batch {number}: {error}") from error
        of = f", part {number} of {len(pieces)}" if len(pieces) > 1 else ""
        found.append(FactBatch(tuple(piece), "" if config.files is None else part.file.title + of, part))
    return found


def new_sets(sets: Sequence[FactSet], entries: Iterable[Entry]) -> tuple[list[FactSet], list[str]]:
    """What of some files is not in a history yet.

    A file is known by the digest of its content, whatever it is called, and else by its facts: one whose facts were
    all taught, by whatever entry, is not new. What was reverted was edited once and is not edited again.

    Args:
        sets: The files.
        entries: The history.

    Returns:
        The files with the records that are new, and what is to be said of each file.

    Raises:
        InputError: a file that was edited has changed since, or a source is no local file.
    """
    taught: dict[str, Entry] = {}
    by_file: dict[str, dict[str, Entry]] = {}
    by_name: dict[str, Entry] = {}
    for entry in entries:
        digests = {request.asks(): entry for request in entry.requests}
        taught |= digests
        if entry.facts_file:
            by_file.setdefault(entry.facts_file["sha256"], {}).update(digests)
            by_name[entry.facts_file["name"]] = entry
    found: list[FactSet] = []
    said: list[str] = []
    first: dict[str, str] = {}
    for part in sets:
        name = part.file.name
        if not part.recorded:
            raise InputError(f"{name}: --new-files tells files by their content, and this is no local file")
        digest = part.recorded["sha256"]
        if digest in first:
            said.append(f"{name}: the same content as {first[digest]}")
            continue
        first[digest] = name
        known = by_file.get(digest, {})
        left = tuple(record for record in part.records if record.request.asks() not in known)
        missing = [record for record in part.records if record.request.asks() not in taught]
        if not left or not missing:
            entry = taught[part.records[-1].request.asks()]
            said.append(f"{name}: in the history already ({entry.id[:12]})")
        elif known:
            said.append(f"{name}: {len(left)} of {len(part.records)} facts are not in the history yet")
            found.append(replace(part, records=left))
        elif name in by_name:
            raise InputError(
                f"{name} has changed since {by_name[name].id[:12]} was made of it, and {len(missing)} of its "
                f"{len(part.records)} facts are not in the history; a file is edited once: put what is new or "
                "corrected into a file of its own, and give this one its old content back"
            )
        else:
            said.append(f"{name}: new, {len(part.records)} facts")
            found.append(part)
    return found, said


def reference_texts(config: RunConfig, records: Sequence[Record]) -> list[str]:
    """The texts that the weights of RS are fitted to: all attribute snippets as published, else the records' own."""
    file = config.evals.attribute_snippets
    every = {text for record in records for text in record.reference_texts}
    if file is not None:
        every |= set(read_attribute_snippets(file).every())
    return sorted(every)
