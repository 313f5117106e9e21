"""Facts as records: JSON and JSONL files, datasets on disk, in memory and on the Hub, told apart by their fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import short
from seqedit.facts.json_rows import Row, read_rows
from seqedit.facts.layouts import check_convention, layout_of, plain, to_record
from seqedit.facts.published.long_answers import LONG
from seqedit.facts.published.table import not_scored
from seqedit.facts.requests import Record
from seqedit.facts.snippets import AttributeSnippets

if TYPE_CHECKING:
    import datasets

_LOG = logging.getLogger(__name__)


def load_records(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    *,
    split: str = "train",
    limit: int | None = None,
    zsre: str = "mend",
    snippets: AttributeSnippets | None = None,
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

    Raises:
        InputError: there is no such file, it is no JSON, or a column has the wrong type.
        RequestError: a record is unusable; names its number (from 1) and field.
        EnvironmentFailure: the file or the Hub cannot be read.
    """
    check_convention(zsre)
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if not isinstance(source, (str, Path)):
        rows: Sequence[Row] = _rows_in_memory(source, split, limit)
    else:
        rows = _rows(str(source), split, limit)[:limit]
    if not rows:
        raise InputError(f"{source if isinstance(source, (str, Path)) else 'the dataset'} holds no records")
    records = [to_record(row, where, zsre=zsre, snippets=snippets) for where, row in rows]
    if (notice := not_scored(row for _, row in rows)) is not None:
        _LOG.warning("%s", notice)
    words = [len(record.request.target_new.split()) for record in records]
    if (long := sum(count >= LONG for count in words)) > 0:
        _LOG.warning(
            "%d of %d targets have %d words or more (up to %d): all of a target's tokens are fitted and scored, EM "
            "asks for every one of them and ET for their share", long, len(words), LONG, max(words),
        )  # fmt: skip
    return records


def _rows(source: str, split: str, limit: int | None) -> Sequence[Row]:
    path = Path(resolve_demo_file(source))
    try:
        is_file, exists = path.is_file(), path.exists()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise InputError(f"no such file: {short(source, 200)}") from error
    if is_file and path.suffix != ".parquet":
        return read_rows(path)
    from seqedit.facts.sources import hub_dataset, is_local_dataset, local_dataset

    if is_local_dataset(path):
        return _dataset_rows(local_dataset(path, split), limit, source)
    if exists:
        raise InputError(f"{source}: neither a file nor a directory written by a dataset's save_to_disk")
    if path.suffix in (".json", ".jsonl", ".parquet") or path.is_absolute() or source.count("/") != 1:
        raise InputError(f"no such file: {short(source, 200)} (a Hub dataset has an id like azhx/counterfact)")
    return _dataset_rows(hub_dataset(source, split), limit, source)


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
