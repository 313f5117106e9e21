"""The baseline that the benchmarks compare with computes what the project computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.plain_loop import plain_edit, plain_keys, plain_outputs, plain_solve, plain_target_values
from benchmarks.plain_scores import plain_scores
from benchmarks.world import Subject, records, requests, synthetic_moments
from evals.scores.counterfact import score_records
from seqedit.adapters.adapter import BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.errors import InputError
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.methods.interface import scratch
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import CholeskyPreconditioner
from seqedit.support.cholesky import cholesky
from seqedit.targets.values import optimise_target_values


@pytest.fixture(scope="module")
def llama() -> Subject:
    return Subject.load("demo-llama")


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest distance of a row, relative to what is expected there."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@pytest.mark.parametrize("name", ["demo-gpt2", "demo-llama"])
@pytest.mark.parametrize(
    ("dtype", "tolerance", "place"),
    [("float32", 1e-3, "preset"), ("float32", 1e-3, "middle"), ("float64", 1e-5, "middle")],
)
def test_its_target_values_are_ours(name, dtype, tolerance, place):
    subject = Subject.load(name, dtype)
    layer = subject.middle if place == "middle" else max(subject.config.layers)
    # The clamp binds and the decay counts, which the presets leave to chance.
    config = replace(subject.config, steps=8, weight_decay=0.5, kl_factor=0.0625, clamp_norm_factor=1.0)
    arguments = (subject.model, subject.parts, subject.tokenizer, requests(2), subject.contexts, layer, config)
    expected, found = optimise_target_values(*arguments), plain_target_values(*arguments)
    assert distance(torch.stack([one.value for one in found]), expected.values) < tolerance
    assert [one.updates for one in found] == list(expected.updates)
    assert [one.loss for one in found] == pytest.approx(expected.losses, rel=tolerance, abs=tolerance)


def test_it_stops_as_early(llama):
    config = replace(llama.config, stop_below=1.0)
    arguments = (llama.model, llama.parts, llama.tokenizer, requests(6), llama.contexts, 0, config)
    found = plain_target_values(*arguments)
    assert [one.updates for one in found] == list(optimise_target_values(*arguments).updates)
    assert len({one.updates for one in found}) > 1


def test_it_refuses_settings_that_the_published_algorithm_has_not(llama):
    config = replace(llama.config, stop_at_argmax=True)
    with pytest.raises(InputError, match="argmax"):
        plain_target_values(llama.model, llama.parts, llama.tokenizer, requests(1), llama.contexts, 0, config)


@pytest.mark.parametrize("at_once", [1, 5])
def test_its_keys_and_outputs_are_ours(llama, at_once):
    edits = requests(4)
    keys = measure_keys(llama.model, llama.parts, llama.tokenizer, edits, llama.contexts, [2])[2]
    found = plain_keys(llama.model, llama.parts, llama.tokenizer, edits, llama.contexts, 2, at_once)
    assert distance(found, keys) < 1e-5
    outputs = measure_outputs(llama.model, llama.tokenizer, edits, llama.parts.layers[2])
    assert distance(plain_outputs(llama.model, llama.parts, llama.tokenizer, edits, 2, at_once), outputs) < 1e-5


def test_its_solve_is_ours():
    C = synthetic_moments({"layer": 24}).matrices["layer"].double()
    random = torch.Generator().manual_seed(0)
    K, R = (torch.randn(d, 5, generator=random, dtype=torch.float64) for d in (24, 7))
    B, A = solve(CholeskyPreconditioner(cholesky(C)), K, R, 1.0)
    assert distance(plain_solve(C, K, R), B @ A) < 1e-10


def test_its_edit_of_several_layers_is_ours_and_is_taken_back(llama):
    config = replace(llama.config, layers=(1, 2), spread="even", steps=4)
    edits = requests(3)
    projections = llama.parts.projections_of(config.layers)
    moments = synthetic_moments({p.name: p.matrix().shape[1] for p in projections})
    before = [p.matrix().clone() for p in projections]
    with scratch(projections):
        found = plain_edit(llama.model, llama.parts, llama.tokenizer, edits, llama.contexts, config, moments)
        assert not torch.equal(projections[0].matrix(), before[0])
    expected = compute_adapter(
        llama.model, llama.tokenizer, edits, "memit", config, base_model=BaseModel("demo-llama", "0" * 64),
        second_moments=moments, context_templates=llama.contexts,
    )  # fmt: skip
    assert found.keys() == expected.deltas.keys()
    for name, delta in found.items():
        assert float((delta - expected.deltas[name].dense()).norm()) < 1e-3 * float(delta.norm())
    assert all(torch.equal(p.matrix(), weight) for p, weight in zip(projections, before, strict=True))


@pytest.mark.parametrize("by_record", [False, True])
def test_its_scores_are_ours(llama, by_record):
    facts = records(3)
    expected = score_records(llama.model, llama.tokenizer, facts).to_dict()["records"]
    found = plain_scores(llama.model, llama.tokenizer, facts, by_record=by_record)
    for nlls, record in zip(found, expected, strict=True):
        prompts = [*record["rewrite"], *record["paraphrase"], *record["neighborhood"]]
        wanted = [prompt[key] for prompt in prompts for key in ("nll_new", "nll_true")]
        assert nlls == pytest.approx(wanted, abs=1e-4)
