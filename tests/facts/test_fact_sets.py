"""Records as datasets: features, the way there and back, datasets on disk and on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqedit.errors import EnvironmentFailure, InputError, RequestError
from seqedit.facts.arrow import FEATURES, from_dataset, to_dataset
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Neighbor, Record, Request
from tests.facts.test_malformed_facts import COUNTERFACT, GOOD

FULL = Record(
    Request("Ana", "{} speaks", "Dutch", "French", "P103", 5),
    ("Ana's tongue is",),
    (Neighbor("Bo speaks"), Neighbor("Who wrote it?", "Bo")),
    ("Ana lives",),
    ("The Dutch live in ...",),
)
BARE = Record(Request(**GOOD))
RECORDS = [FULL, BARE, Record(Request(**GOOD, case_id="5")), Record(Request(**GOOD, case_id=-(2**63)))]

words = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
said = words.filter(lambda text: text.strip()).filter(lambda text: "{}" not in text)
records = st.builds(
    Record,
    st.builds(
        Request, said, said.map(lambda text: "{}" + text), said, st.none() | said, st.none() | words,
        st.none() | words | st.integers(-(2**63), 2**63 - 1),
    ),
    st.lists(words, max_size=2).map(tuple),
    st.lists(st.builds(Neighbor, words, st.none() | words), max_size=2).map(tuple),
    st.lists(words, max_size=2).map(tuple),
    st.lists(words, max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(records, max_size=4))
def test_every_record_comes_back_as_it_was(some: list[Record]) -> None:
    dataset = to_dataset(some)
    assert dataset.features == FEATURES
    assert from_dataset(dataset) == some


def test_an_id_stays_a_number_or_a_string() -> None:
    assert [r.request.case_id for r in from_dataset(to_dataset(RECORDS))] == [5, None, "5", -(2**63)]


@pytest.mark.parametrize("kind", ["directory", "splits", "parquet"])
def test_a_saved_dataset_is_read_by_load_records(kind: str, tmp_path: Path) -> None:
    dataset, place = to_dataset(RECORDS), tmp_path / ("facts.parquet" if kind == "parquet" else "facts")
    if kind == "parquet":
        dataset.to_parquet(place)
    else:
        (dataset if kind == "directory" else datasets.DatasetDict({"train": dataset})).save_to_disk(place)
    before = sorted(tmp_path.rglob("*"))
    assert load_records(place) == RECORDS
    assert load_records(place, limit=1) == [FULL]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dataset_in_memory_is_read_whatever_its_format() -> None:
    dataset = to_dataset(RECORDS)
    assert load_records(dataset) == from_dataset(dataset.with_format("numpy")) == RECORDS
    assert load_records(datasets.DatasetDict({"test": dataset}), split="test") == RECORDS
    with pytest.raises(InputError, match=r"not from list"):
        load_records([GOOD])  # type: ignore[arg-type]


def test_a_missing_split_is_answered_with_those_there_are(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"test": to_dataset(RECORDS), "dev": to_dataset(RECORDS)})
    splits.save_to_disk(tmp_path / "facts")
    for read in (
        lambda: from_dataset(splits),
        lambda: load_records(splits),
        lambda: load_records(tmp_path / "facts"),
    ):
        with pytest.raises(InputError, match=r"has no split 'train'; it has: dev, test"):
            read()


def with_column(name: str, values: list[Any], feature: Any = None) -> datasets.Dataset:
    columns = {key: [value] for key, value in GOOD.items()}
    features = {key: datasets.Value("string") for key in columns}
    columns[name] = values
    features = {**features, name: feature} if feature is not None else None  # type: ignore[assignment]
    return datasets.Dataset.from_dict(columns, features=features and datasets.Features(features))


BAD_COLUMNS = [
    ("subject", [7], "column 'subject' has type int64, expected string"),
    ("target_new", [None], "column 'target_new' has type null, expected string"),
    ("target_new", [["a"]], "column 'target_new' has type list of string, expected string"),
    ("case_id", [1.5], "column 'case_id' has type float64, expected int64"),
    ("relation", [103], "column 'relation' has type int64, expected string"),
    ("paraphrase_prompts", ["a"], "column 'paraphrase_prompts' has type string, expected list of string"),
    ("generation_prompts", [[1]], "column 'generation_prompts' has type list of int64, expected list of string"),
    (
        "neighborhood_prompts", [[{"prompt": "a", "target": "b"}]],
        "column 'neighborhood_prompts' has type list of {prompt: string, target: string}, "
        "expected list of {prompt: string, target_true: string}",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "message"), BAD_COLUMNS)
def test_a_column_of_the_wrong_type_is_named_with_both_types(name: str, values: list[Any], message: str) -> None:
    dataset = with_column(name, values)
    for read in (from_dataset, load_records):
        with pytest.raises(InputError) as caught:
            read(dataset)
        assert message in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match="column 'target_new' is missing, expected string"):
        from_dataset(with_column("x", ["y"]).remove_columns("target_new"))
    with pytest.raises(RequestError, match="the dataset: unknown layout with fields x"):
        load_records(datasets.Dataset.from_dict({"x": ["y"]}))


@pytest.mark.parametrize(
    ("name", "values", "feature", "field", "expected"),
    [
        ("relation", [None], None, "relation", None),
        ("case_id", ["c7"], None, "case_id", "c7"),
        ("case_id", [7], datasets.Value("int32"), "case_id", 7),
        ("subject", ["Lyon"], datasets.Value("large_string"), "subject", "Lyon"),
        ("my_notes", [3], None, "subject", "Lyon"),
    ],
)
def test_columns_as_other_tools_write_them_are_read(
    name: str, values: list[Any], feature: Any, field: str, expected: Any
) -> None:
    dataset = with_column(name, values, feature)
    for read in (from_dataset, load_records):
        (record,) = read(dataset)
        assert getattr(record.request, field) == expected


def test_neighbours_without_their_own_answer_may_be_plain_strings() -> None:
    dataset = with_column("neighborhood_prompts", [["Paris is", "Rome is"]])
    for read in (from_dataset, load_records):
        assert read(dataset)[0].neighborhood_prompts == (Neighbor("Paris is"), Neighbor("Rome is"))


def test_a_bad_row_is_named_by_number() -> None:
    rows = [GOOD, {**GOOD, "prompt": "no slot"}]
    with pytest.raises(RequestError, match=r"^record 2: .*'prompt' must hold exactly one"):
        from_dataset(datasets.Dataset.from_list(rows))
    with pytest.raises(RequestError, match=r"^the dataset, record 2: field 'prompt': the subject 'Lyon' does not"):
        load_records(datasets.Dataset.from_list(rows))


def hub_rows() -> list[dict[str, Any]]:
    """Two CounterFact rows; the second lacks sub-fields, which Arrow fills with None."""
    thin = {
        "case_id": 6,
        "requested_rewrite": {"prompt": "{} speaks", "subject": "Bo", "target_new": {"str": "Dutch"}},
        "paraphrase_prompts": None,
    }
    return [dict(COUNTERFACT), thin]


def test_counterfact_from_the_hub_with_nulls_for_what_is_absent(monkeypatch: Any) -> None:
    dataset = datasets.Dataset.from_list(hub_rows())
    assert dataset[1]["requested_rewrite"]["target_true"] in (None, {"str": None, "id": None})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or dataset)
    first, second = load_records("azhx/counterfact", split="test")
    assert asked == [("azhx/counterfact", "test")]
    assert first.request == Request("Ana", "{} speaks", "Dutch", "French", "P103", 5)
    assert second == Record(Request("Bo", "{} speaks", "Dutch", case_id=6))


def test_a_struct_whose_parts_are_all_null_is_absent() -> None:
    rewrite = {**COUNTERFACT["requested_rewrite"], "target_true": {"str": None, "id": None}}  # type: ignore[dict-item]
    (record,) = load_records(datasets.Dataset.from_list([{**COUNTERFACT, "requested_rewrite": rewrite}]))
    assert record.request.target_true is None


def test_hub_errors_are_told_apart(monkeypatch: Any) -> None:
    def fail(error: Exception) -> Any:
        def load(*_: Any, **__: Any) -> Any:
            raise error

        return load

    monkeypatch.setattr(datasets, "load_dataset", fail(ValueError("Unknown split \"x\". Should be one of ['train'].")))
    with pytest.raises(InputError, match=r"org/facts.*split x.*Should be one of \['train'\]"):
        load_records("org/facts", split="x")
    monkeypatch.setattr(datasets, "load_dataset", fail(ConnectionError("no network\nsecond line")))
    with pytest.raises(EnvironmentFailure, match=r"'org/facts' \(split train\): no network$"):
        load_records("org/facts")


def test_a_damaged_dataset_is_an_input_error_that_names_it(tmp_path: Path) -> None:
    to_dataset(RECORDS).save_to_disk(tmp_path / "facts")
    (arrow,) = (tmp_path / "facts").glob("*.arrow")
    data = arrow.read_bytes()
    arrow.write_bytes(data[: len(data) // 2])
    to_dataset(RECORDS).save_to_disk(tmp_path / "bare")
    (tmp_path / "bare" / "state.json").write_text("{")
    to_dataset(RECORDS).save_to_disk(tmp_path / "gone")
    next((tmp_path / "gone").glob("*.arrow")).unlink()
    (tmp_path / "facts.parquet").write_bytes(b"PAR1 no")
    for name in ("facts", "bare", "gone", "facts.parquet"):
        with pytest.raises(InputError, match=f"{name}: not a readable dataset"):
            load_records(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: neither a file nor a directory written by"):
        load_records(tmp_path / "empty")
    to_dataset([]).save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match="none holds no records"):
        load_records(tmp_path / "none")


@pytest.mark.parametrize("name", ["counterfact_2000.json", "zsre_500.json"])
def test_real_records_survive_the_way_through_a_dataset(name: str, shared_data: Path, tmp_path: Path) -> None:
    real = load_records(shared_data / name)
    assert from_dataset(to_dataset(real)) == real
    to_dataset(real).save_to_disk(tmp_path / "facts")
    assert load_records(tmp_path / "facts") == real
    # The file's own rows, unconverted, as a dataset: every column of its layout, found by its fields.
    assert load_records(datasets.Dataset.from_list(json.loads((shared_data / name).read_text()))) == real
