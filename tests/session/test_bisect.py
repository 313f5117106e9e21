"""Bisection: the right entry, few measurements, nothing measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.likelihood.divergence import score_divergence
from evals.tasks.tasks import load_tasks
from ledger import Ledger
from seqedit.errors import CheckFailed, InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.library.inputs import metric_of
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.session.bisect import bisect, bisect_ledger
from seqedit.session.metrics import DivergenceMetric, FactMetric, PerplexityMetric, TaskMetric
from seqedit.session.session import Session
from tests.conftest import REFERENCE


@given(length=st.integers(2, 200), data=st.data(), lower=st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_first_bad_state_is_found_in_logarithmically_many_looks(length: int, data: Any, lower: bool) -> None:
    planted = data.draw(st.integers(1, length - 1))
    values = [float((i < planted) != lower) for i in range(length)]
    found = bisect([str(i) for i in range(length)], lambda i: values[int(i)], lower_is_better=lower)
    assert (found.last_good, found.first_bad) == (str(planted - 1), str(planted))
    assert len(found.values) <= 2 + (length - 1).bit_length()


def test_ends_that_are_not_good_and_bad_are_refused_with_their_values() -> None:
    with pytest.raises(InputError, match=r"0\.9.*0\.95"):
        bisect(["a", "b"], {"a": 0.9, "b": 0.95}.__getitem__)
    with pytest.raises(InputError, match="the same"):
        bisect(["a"], {"a": 0.9}.__getitem__)


@pytest.fixture
def session(tmp_path: Path) -> Any:
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, None, context_templates=[["{}"]])


@pytest.fixture
def records(tmp_path: Path) -> Any:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(case["records"]))
    return load_records(tmp_path / "facts.json")


def mild(session: Any, records: Any, number: int) -> str:
    config = get_method("ft").config.from_dict({"layers": [3], "steps": 1, "learning_rate": 1e-6})
    return str(session.edit(requests_of([records[number]]), "ft", config).id)


def harmful(session: Any, records: Any, number: int) -> str:
    config = get_method("ft").config.from_dict({"layers": [1, 2, 3], "steps": 5, "learning_rate": 1.0})
    return str(session.edit(requests_of([records[number]]), "ft", config).id)


@pytest.fixture
def planted(session: Any, records: Any) -> str:
    """Six entries, the fourth of which ruins the model."""
    for number in range(3):
        mild(session, records, number)
    found = harmful(session, records, 3)
    for number in range(4, 6):
        mild(session, records, number)
    return found


def test_an_entry_that_ruins_the_model_is_found_by_perplexity(session: Any, records: Any, planted: str) -> None:
    metric = PerplexityMetric([record.request.text for record in records])
    looked: list[bool] = []
    head = session.ledger.head()
    found = bisect_ledger(
        session.ledger, metric, session.ledger.root(), session=session,
        on_value=lambda entry, value, measured: looked.append(measured),
    )  # fmt: skip
    assert found.first_bad == planted
    assert all(looked)
    assert len(looked) < 7
    assert session.ledger.head() == head
    looked.clear()
    again = bisect_ledger(
        session.ledger, metric, session.ledger.root(), session=session, drop=found.values[session.ledger.root()],
        on_value=lambda entry, value, measured: looked.append(measured),
    )  # fmt: skip
    assert again.first_bad == planted
    assert not any(looked)  # the ledger has them now


def test_it_is_found_by_the_divergence_from_the_unedited_model(session: Any, records: Any, planted: str) -> None:
    metric, root = DivergenceMetric([record.request.text for record in records]), session.ledger.root()
    measured: dict[str, bool] = {}

    def look(entry: str, value: float, anew: bool) -> None:
        measured[entry] = anew

    found = bisect_ledger(session.ledger, metric, root, session=session, on_value=look)
    assert found.first_bad == planted
    assert found.values[root] == 0
    assert [entry for entry, anew in measured.items() if not anew] == [root]  # known without a look
    session.checkout(planted)
    texts = [record.request.text for record in records]
    far = score_divergence(session.edited.model, session.edited.tokenizer, texts, session.edited.unedited)
    assert found.values[planted] == pytest.approx(far.kl)
    session.restore()
    assert bisect_ledger(session.ledger, metric, root, threshold=1e-3).first_bad == planted  # the ledger has them now


def test_kl_is_a_metric_by_name_and_asks_for_its_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One line.\nAnother line.\n")
    found = metric_of("kl", text=tmp_path / "text.txt")
    assert (found.name, found.lower_is_better) == ("kl", True)
    with pytest.raises(InputError, match=r"kl is measured on a text: give --text"):
        metric_of("kl")


def test_scores_of_fixed_records_and_of_a_task_find_it_too(
    session: Any, records: Any, planted: str, tmp_path: Path
) -> None:
    root = session.ledger.root()
    assert bisect_ledger(session.ledger, FactMetric("NS", records), root, session=session).first_bad == planted
    documents = [{"sentence": r.request.text, "label": i % 2, "idx": i} for i, r in enumerate(records)]
    (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, documents)))
    task = TaskMetric("cola", None, load_tasks(["cola"], {"cola": str(tmp_path / "cola.jsonl")}))
    first = task.stored(session.ledger, root)
    assert first is None
    session.checkout(root)
    assert task.measure(session, root) == task.stored(session.ledger, root)


def test_outcomes_of_other_documents_are_not_compared(session: Any, records: Any, planted: str, tmp_path: Path) -> None:
    ledger = session.ledger
    for entry, count in ((ledger.root(), 4), (ledger.head(), 2)):
        documents = [{"sentence": r.request.text, "label": i % 2, "idx": i} for i, r in enumerate(records[:count])]
        (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, documents)))
        loaded = load_tasks(["cola"], {"cola": str(tmp_path / "cola.jsonl")})
        session.checkout(entry)
        TaskMetric("cola", None, loaded).measure(session, entry)
    with pytest.raises(CheckFailed, match="other documents"):
        bisect_ledger(ledger, TaskMetric("cola", None, None), ledger.root(), session=session)


def test_a_value_that_is_missing_and_cannot_be_measured_says_what_to_give(session: Any, planted: str) -> None:
    with pytest.raises(InputError, match="--task cola=FILE"):
        bisect_ledger(session.ledger, TaskMetric("cola", "mcc", None), session.ledger.root(), session=session)
