"""Plain text from all the places it can come from, and second moments' own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.models.anatomy import anatomy
from seqedit.moments.figures import moment_figures
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.second_moments import SecondMoments, shrink
from seqedit.moments.store import cached_second_moments
from seqedit.support.cholesky import cholesky
from seqedit.text.plain_text import TextSource

TEXTS = ["The first document.", "", "Zweites Dokument, mit Umlaut: ä.", "third"]


def write(folder: Path, kind: str, column: str = "text") -> str:
    rows = datasets.Dataset.from_dict({column: TEXTS, "id": list(range(4))})
    path = folder / kind
    if kind == "a.txt":
        path.write_text("\n".join(TEXTS) + "\n", "utf-8")
    elif kind == "a.jsonl":
        path.write_text("\n".join(json.dumps({column: t, "id": 1}) for t in TEXTS) + "\n\n", "utf-8")
    elif kind == "a.parquet":
        rows.to_parquet(str(path))
    elif kind == "saved":
        rows.save_to_disk(str(path))
    else:
        datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(path))
    return str(path)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.parametrize("kind", ["a.txt", "a.jsonl", "a.parquet", "saved", "splits"])
def test_every_source_gives_the_same_texts_and_a_name_by_content(kind: str, tmp_path: Path) -> None:
    first = write(tmp_path, kind)
    source = TextSource(first)
    assert list(source) == TEXTS == list(source)
    (tmp_path / "copy").mkdir()
    assert TextSource(write(tmp_path / "copy", kind)).identity.startswith("file")
    assert source.identity == TextSource(first).identity
    changed = Path(first) if Path(first).is_file() else next(Path(first).rglob("*.arrow"))
    before = source.identity
    changed.write_bytes(changed.read_bytes() + b" ")
    assert source.identity != before


@pytest.mark.parametrize("kind", ["a.jsonl", "a.parquet", "saved"])
def test_another_column_is_asked_for_by_name(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind, column="body")
    assert list(TextSource(path, "body")) == TEXTS
    assert TextSource(path, "body").identity != TextSource(path).identity
    with pytest.raises(InputError, match=r"'text' \(columns: body, id\)"):
        list(TextSource(path))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text":\n')
    (tmp_path / "b.jsonl").write_text('"only a string"\n')
    (tmp_path / "a.parquet").write_text("no")
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\xfe\n")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("a.jsonl", r"a\.jsonl, line 2: not JSON"),
        ("b.jsonl", "row 1: no text in column 'text'"),
        ("a.parquet", "not a readable Parquet file"),
        ("a.txt", "not UTF-8 at byte"),
        ("folder", "no such text file"),
        ("none.txt", "no such text file"),
    ):
        with pytest.raises(InputError, match=message):
            list(TextSource(str(tmp_path / name)))


def test_a_dataset_on_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def rows() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield {"text": f"row {number}"}

    def load(name: str, config: str | None, **options: Any) -> Any:
        assert (name, config, options) == ("org/data", "part", {"split": "train", "streaming": True})
        return rows()

    monkeypatch.setattr(datasets, "load_dataset", load)
    texts = iter(TextSource("org/data:part"))
    assert [next(texts) for _ in range(3)] == ["row 0", "row 1", "row 2"]
    assert len(taken) == 3
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: [{"content": "x"}])
    with pytest.raises(InputError, match=r"row 1: no text in column 'text' \(columns: content\)"):
        list(TextSource("org/data"))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(EnvironmentFailure, match="'org/data': no route; give a local file"):
        list(TextSource("org/data"))


def test_a_sample_size_by_dimension_is_the_same_cache_as_that_many_tokens(reference_model: Any, tmp_path: Path) -> None:
    model, tokenizer = reference_model
    (tmp_path / "text.txt").write_text("\n".join(f"Number {i} is a fact." for i in range(600)))
    source, projections = TextSource(str(tmp_path / "text.txt")), anatomy(model).projections_of([1])

    def get(**options: Any) -> SecondMoments:
        return cached_second_moments(model, tokenizer, "f" * 64, projections, source, cache_dir=tmp_path, **options)

    first = get(per_dimension=4)
    assert 4 * 512 <= first.tokens < 4 * 512 + 64
    assert get(max_tokens=2048).digest == first.digest
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_what_measures_can_be_exchanged_and_is_asked_for_what_is_missing(reference_model: Any, tmp_path: Path) -> None:
    model, tokenizer = reference_model
    (tmp_path / "text.txt").write_text("\n".join(f"Number {i} is a fact." for i in range(200)))
    source, projections = TextSource(str(tmp_path / "text.txt")), anatomy(model).projections_of([1, 2])
    asked = []

    def halves(*arguments: Any, **options: Any) -> SecondMoments:
        asked.append([p.name for p in arguments[2]])
        return SecondMoments.merged([compute_second_moments(*arguments, share=(r, 2), **options) for r in (0, 1)])

    for chosen in (projections[:1], projections, projections):
        cached_second_moments(
            model, tokenizer, "f" * 64, chosen, source, max_tokens=500, cache_dir=tmp_path, measure=halves
        )
    assert asked == [[projections[0].name], [projections[1].name]]


@pytest.mark.parametrize("size", [1, 5, 60])
@pytest.mark.parametrize("power", [0.0, 3.0, 12.0])
def test_figures_of_a_second_moment_are_those_of_its_eigenvalues(size: int, power: float) -> None:
    generator = torch.Generator().manual_seed(size)
    Q = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    values = torch.logspace(0, -power, size, dtype=torch.float64)
    found = moment_figures(Q @ torch.diag(values) @ Q.T)
    assert found.largest == pytest.approx(float(values[0]), rel=0.02)
    assert found.smallest == pytest.approx(float(values[-1]), rel=0.02)
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.effective_rank == pytest.approx(float(values.sum() ** 2 / values.square().sum()))
    s = found.shrinkage_for(1e4)
    assert (s > 0) == (found.largest / found.smallest > 1e4)
    shrunk = torch.linalg.eigvalsh(shrink(Q @ torch.diag(values) @ Q.T, s))
    assert float(shrunk[-1] / shrunk[0]) <= 1.05e4
    assert s == 0 or float(shrunk[-1] / shrunk[0]) >= 0.95e4, "no more than needed"


def test_a_singular_second_moment_is_called_so_and_its_shrinkage_makes_it_factorable() -> None:
    keys = torch.randn(5, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    C = keys.T @ keys
    found = moment_figures(C)
    assert found.condition is None
    cholesky(shrink(C, found.shrinkage_for()))
    assert 0 < found.shrinkage_for() < 1e-4
