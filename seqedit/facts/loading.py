"""Facts as records: JSON and JSONL files, datasets on disk, in memory and on the Hub, told apart by their fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import short
from seqedit.facts.json_rows import Row, read_rows
from seqedit.facts.layouts import Layout, check_convention, layout_of, plain, to_record
from seqedit.facts.published.long_answers import LONG
from seqedit.facts.reading.detect import layouts_of
from seqedit.facts.reading.notices import not_scored, true_already
from seqedit.facts.reading.recognise import what_bytes_are, what_folder_is, what_rows_are, what_text_is
from seqedit.facts.reading.unusable import Skipped, Unusable, refusal, unusable
from seqedit.facts.requests import Record
from seqedit.facts.snippets import AttributeSnippets

if TYPE_CHECKING:
    import datasets

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FactsRead:
    """What was read of a source.

    Attributes:
        records: Its records.
        numbers: Their numbers in the source, from 1: without those that were left out.
        skipped: What was left out as unusable; None for nothing.
    """

    records: list[Record]
    numbers: tuple[int, ...]
    skipped: Skipped | None = None


def load_records(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    *,
    split: str = "train",
    limit: int | None = None,
    zsre: str = "mend",
    snippets: AttributeSnippets | None = None,
    skip_unusable: bool = False,
) -> list[Record]:
    """Records from a file, or from a dataset on disk, in memory or on the Hub.

    Args:
        source: A JSON or JSONL file (``demo:counterfact.json`` for one of the demo world), a directory written by
            ``save_to_disk``, a Parquet file, a dataset, or the id of a Hub dataset (``azhx/counterfact``).
        split: Which split of a dataset that has splits.
        limit: Take only the first records.
        zsre: What zsRE records teach: ``mend`` their ``alt`` (MEND, EasyEdit), ``memit`` the right answer, with the
            locality question ending in a question mark (ROME, MEMIT, AlphaEdit). ``alt`` and ``answers`` name the same.
        snippets: Reference texts for CounterFact records that hold none of their own.
        skip_unusable: Leave out records that cannot be used, and log which and why; where none can be used it is an
            error all the same. `read_facts` returns them.

    Raises:
        InputError: there is no such file, it is no JSON, or a column has the wrong type.
        RequestError: records are unusable; names all of them by number (from 1), with their fields. Or they are of no
            known layout, or of several.
        EnvironmentFailure: the file or the Hub cannot be read.
    """
    found = read_facts(
        source, split=split, limit=limit, zsre=zsre, snippets=snippets, skip_unusable=skip_unusable
    )  # fmt: skip
    if found.skipped is not None:
        _LOG.warning("%s", found.skipped)
    return found.records


def read_facts(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    *,
    split: str = "train",
    limit: int | None = None,
    zsre: str = "mend",
    snippets: AttributeSnippets | None = None,
    skip_unusable: bool = False,
    offer: bool = True,
) -> FactsRead:
    """As `load_records`, with what was left out; ``offer`` says whether an error is to name the way to leave it out."""
    check_convention(zsre)
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if not isinstance(source, (str, Path)):
        rows: Sequence[Row] = _rows_in_memory(source, split, limit)
    else:
        rows = _rows(str(source), split, limit)[:limit]
    name = str(source) if isinstance(source, (str, Path)) else "the dataset"
    if not rows:
        raise InputError(f"{name} holds no records")
    what = what_rows_are([value for _, value in rows])
    if what is not None:
        raise RequestError(f"{name} holds no facts: {what}")
    return records_of(rows, name, zsre=zsre, snippets=snippets, skip_unusable=skip_unusable, offer=offer)


def records_of(
    rows: Sequence[Row],
    name: str,
    *,
    zsre: str = "mend",
    snippets: AttributeSnippets | None = None,
    skip_unusable: bool = False,
    offer: bool = True,
) -> FactsRead:
    """Rows as records, the unusable ones told all at once.

    Args:
        rows: Rows, each with its place.
        name: What they come from, for messages.
        zsre: As for `load_records`; so for the rest.
        snippets: Reference texts.
        skip_unusable: Leave out what cannot be used.
        offer: Whether an error is to say so.

    Raises:
        RequestError: as for `load_records`.
    """
    layouts = layouts_of(rows, name)
    records, numbers, faults = [], [], []
    for number, ((where, row), layout) in enumerate(zip(rows, layouts, strict=True), 1):
        try:
            records.append(to_record(row, where, zsre=zsre, snippets=snippets, layout=layout))
            numbers.append(number)
        except RequestError as error:
            faults.append(unusable(number, where, row, error))
    named = [(row, None if one is None else one.name) for (_, row), one in zip(rows, layouts, strict=True)]
    _tell(named, records, numbers, name)
    if not faults:
        return FactsRead(records, tuple(numbers))
    if not records or not skip_unusable:
        raise refusal(name, faults, len(rows), _instead(rows, layouts, faults, zsre), offer=offer)
    return FactsRead(records, tuple(numbers), Skipped(name, len(rows), tuple(faults)))


def _tell(rows: Sequence[tuple[Any, str | None]], records: Sequence[Record], numbers: Sequence[int], name: str) -> None:
    """Say what of the rows is not scored, which records ask for what is true already, and that targets are long."""
    for notice in (not_scored(rows), true_already(records, numbers, name)):
        if notice is not None:
            _LOG.warning("%s", notice)
    words = [len(record.request.target_new.split()) for record in records]
    if (long := sum(count >= LONG for count in words)) > 0:
        _LOG.warning(
            "%d of %d targets have %d words or more (up to %d): all of a target's tokens are fitted and scored, EM "
            "asks for every one of them and ET for their share", long, len(words), LONG, max(words),
        )  # fmt: skip


def _instead(
    rows: Sequence[Row], layouts: Sequence[Layout | None], faults: Sequence[Unusable], zsre: str
) -> list[str]:  # fmt: skip
    """Another zsRE convention, where it reads what this one cannot."""
    if zsre not in ("mend", "alt") or not any(layout is not None and layout.name == "zsRE" for layout in layouts):
        return []
    read = 0
    for fault in faults:
        where, row = rows[fault.number - 1]
        try:
            to_record(row, where, zsre="memit", layout=layouts[fault.number - 1])
            read += 1
        except RequestError:
            pass
    every = f"reads {read} of them" if read < len(faults) else "reads them all" if read > 1 else "reads it"
    return [f"--zsre memit (zsre: memit), which teaches the right answers and needs no 'alt', {every}"] if read else []


def _rows(source: str, split: str, limit: int | None) -> Sequence[Row]:
    path = Path(resolve_demo_file(source))
    try:
        is_file, exists = path.is_file(), path.exists()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise InputError(f"no such file: {short(source, 200)}") from error
    if is_file and path.suffix != ".parquet":
        return _rows_of_file(path, source)
    from seqedit.facts.sources import hub_dataset, is_local_dataset, local_dataset

    if is_local_dataset(path):
        return _dataset_rows(local_dataset(path, split), limit, source)
    if exists and (what := what_folder_is(path)) is not None:
        raise InputError(f"{source} holds no facts: it is {what}")
    if exists:
        raise InputError(f"{source}: neither a file nor a directory written by a dataset's save_to_disk")
    if path.suffix in (".json", ".jsonl", ".parquet") or path.is_absolute() or source.count("/") != 1:
        raise InputError(f"no such file: {short(source, 200)} (a Hub dataset has an id like azhx/counterfact)")
    return _dataset_rows(hub_dataset(source, split), limit, source)


def _rows_of_file(path: Path, source: str) -> Sequence[Row]:
    """Rows of a JSON or JSONL file; one that is neither is called what it is."""
    if (what := what_bytes_are(path)) is not None:
        raise InputError(f"{source} holds no facts: it is {what}")
    try:
        return read_rows(path)
    except RequestError:
        raise
    except InputError as error:
        # Of a file that is no JSON at all the syntax error would tell nothing.
        if (what := what_text_is(path)) is None:
            raise
        raise InputError(f"{source} holds no facts: it is {what}") from error


def _rows_in_memory(dataset: Any, split: str, limit: int | None) -> Sequence[Row]:
    import datasets

    from seqedit.facts.sources import pick_split

    if not isinstance(dataset, (datasets.Dataset, datasets.DatasetDict)):
        raise InputError(f"records come from a path, a Hub id or a datasets.Dataset, not from {type(dataset).__name__}")
    return _dataset_rows(pick_split(dataset, split, "the dataset"), limit, "the dataset")


def _dataset_rows(dataset: datasets.Dataset, limit: int | None, source: str) -> Sequence[Row]:
    """Rows of a dataset; columns of the plain layout are checked before a row is read."""
    from seqedit.facts.arrow import check_features

    # The published layouts nest differently from file to file; their rows are checked one by one.
    try:
        if layout_of(dataset.features) is plain:
            check_features(dataset.features, source)
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from None
    if limit is not None:
        dataset = dataset.select(range(min(limit, len(dataset))))
    try:
        rows = list(dataset.with_format(None))
    except (OSError, ValueError) as error:  # found only on reading: a damaged block, text that is not UTF-8
        raise InputError(f"{source}: not a readable dataset ({str(error)[:300]})") from error
    return [(f"{source}, record {number}", row) for number, row in enumerate(rows, 1)]
