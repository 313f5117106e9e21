"""Portability and locality: columns of their own, from a plain forward pass and by hand."""

from __future__ import annotations

import json
from typing import Any

from evals.likelihood.teacher_forcing import Continuation
from evals.scores.counterfact import score_records
from evals.scores.intervals import estimated_scores
from evals.scores.paired import paired_scores
from evals.scores.probes import ProbeScore, TokenizedProbe, compared
from evals.scores.scores import METRICS, RecordScore, Scores
from seqedit.facts.requests import Probe, Record, Request

PAIR = ((1,), (2, 3))


def probe(kind: str, name: str, predicted: tuple[int, ...], right: tuple[int, ...] = (2, 3)) -> ProbeScore:
    correct = sum(p == r for p, r in zip(predicted, right, strict=True))
    asked = TokenizedProbe(kind, name, "q", (((1,), right),), True)
    return asked.score([Continuation(1.0, len(right), correct, predicted)])


def scores(*records: tuple[ProbeScore, ...]) -> Scores:
    return Scores(tuple(RecordScore(i, (), (), (), probes) for i, probes in enumerate(records)))


def test_portability_is_the_token_accuracy_of_the_accepted_answer_that_fares_best() -> None:
    asked = TokenizedProbe("portability", "reasoning", "q", (PAIR, PAIR), True)
    found = asked.score([Continuation(1, 4, 1, (0, 0, 0, 3)), Continuation(1, 2, 2, (2, 3))])
    assert (found.argmax_share, found.argmax_correct) == (1.0, True)
    half = scores((probe("portability", "reasoning", (2, 9)),), (probe("portability", "aliasing", (2, 3)),))
    assert half.probed == {
        "portability": 75, "portability_exact": 50, "portability/aliasing": 100, "portability/reasoning": 50
    }  # fmt: skip
    assert half.missing == dict.fromkeys(("locality", "locality_kept"), "no record has a locality prompt")


def test_locality_is_agreement_with_the_unedited_model_right_or_wrong() -> None:
    before = scores((probe("locality", "forgetfulness", (8, 9)), probe("locality", "relation", (2, 3))))
    after = scores((probe("locality", "forgetfulness", (8, 7)), probe("locality", "relation", (2, 3))))
    assert after.probed["locality"] is None
    assert after.missing["locality"] == "there is no unedited model to compare with"
    found = after.against(before)
    assert found.probed == {
        "locality": 75, "locality_kept": 100, "locality/forgetfulness": 50, "locality/relation": 100
    }  # fmt: skip


def test_only_what_was_known_before_can_be_kept() -> None:
    never = scores((probe("locality", "", (8, 9)),))
    assert never.against(never).missing["locality_kept"] == "the unedited model answers no locality prompt rightly"
    lost = scores((probe("locality", "", (8, 9)),)).against(scores((probe("locality", "", (2, 3)),)))
    assert lost.probed == {"locality": 0, "locality_kept": 0}


def test_the_columns_have_intervals_and_changes_and_leave_the_old_scores_alone() -> None:
    before = scores(*[(probe("portability", "x", (0, 0)),)] * 4)
    after = scores(*[(probe("portability", "x", (2, 3)),)] * 4)
    found = estimated_scores(after)["portability/x"]
    assert found is not None
    assert 0 < found.ci_low < found.value == 100
    assert paired_scores(before, after)["portability"].change == 100
    assert set(after.summary) == set(METRICS)
    assert (
        ProbeScore.from_dict(json.loads(json.dumps(after.records[0].probes[0].to_dict()))) == after.records[0].probes[0]
    )
    assert compared(after.records[0].probes, before.records[0].probes) == after.records[0].probes


def test_a_file_without_such_questions_says_why_its_columns_are_null() -> None:
    assert list(scores(()).to_dict()) == [*METRICS, "records"]
    told = scores(()).probed_or_why
    assert told["portability"] is None
    assert told["locality"] is None
    assert told["missing"]["portability"] == "no record has a portability prompt"


def test_the_probes_of_a_record_are_scored_as_a_plain_forward_pass_says(reference_model: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = reference_model
    record = Record(
        Request("Ann", "{} lives in", "Lyon"),
        probes=(
            Probe("portability", "reasoning", "Ann lives in", ("Paris", "Lyon")),
            Probe("locality", "", "Bob lives in", ("Oslo",)),
            Probe("locality", "", "Bob works in"),
        ),
    )
    (found,) = score_records(model, tokenizer, [record]).records
    for asked, answer in zip(found.probes[1:], (" Oslo", None), strict=True):
        prompt = tokenizer(asked.prompt)["input_ids"]
        whole = prompt + (tokenizer(answer)["input_ids"] if answer else [])
        logits = model(torch.tensor([whole])).logits[0].argmax(-1).tolist()
        assert list(asked.predicted) == logits[len(prompt) - 1 : len(whole) - (1 if answer else 0)]


def test_a_step_has_locality_against_the_unedited_weights(reference_model: tuple[Any, Any]) -> None:
    from collections.abc import Iterator
    from contextlib import contextmanager

    import torch

    from seqedit.scoring.evaluator import Batch, Evaluator
    from seqedit.scoring.settings import EvalSettings

    model, tokenizer = reference_model
    head = model.get_input_embeddings().weight
    saved = head.detach().clone()

    @contextmanager
    def unedited() -> Iterator[None]:
        edited = head.detach().clone()
        head.data.copy_(saved)
        try:
            yield
        finally:
            head.data.copy_(edited)

    record = Record(
        Request("Ann", "{} lives in", "Lyon", "Rome"),
        probes=(
            Probe("locality", "relation_specificity", "Bob lives in", ("Oslo",)),
            Probe("portability", "", "Ann lives in", ("Lyon",)),
        ),
    )
    evaluator = Evaluator(tokenizer, EvalSettings(generation=False, drift=False))
    same = evaluator.step(model, [Batch("e", [record], [0])], None, unedited=unedited)
    assert same.new["locality"] == same.new["locality/relation_specificity"] == 100
    assert same.new["intervals"]["locality"][0] < 100
    try:
        with torch.no_grad():
            head.copy_(head.roll(1, 0))
        moved = evaluator.step(model, [Batch("e", [record], [0])], None, unedited=unedited)
    finally:
        head.data.copy_(saved)
    assert moved.new["locality"] < 100
    assert moved.by_entry["e"]["portability"] == moved.new["portability"]
    assert moved.new["missing"].get("portability") is None


def test_reports_gates_and_histories_know_the_columns_without_torch() -> None:
    import subprocess
    import sys

    names = "evals.report.report, evals.gate_rules, seqedit.history.status, seqedit.facts.reading.notices"
    code = f"import sys, {names}; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
