"""UltraEdit: its formula, from gradients of its own, and that its statistics are those of the batches in force."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import Tensor

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.editing.hyperparameters import read_hparams
from seqedit.errors import InputError, NumericsError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.methods.training import losses_of, target_prompts
from seqedit.methods.ultraedit.method import least_squares, step
from seqedit.methods.ultraedit.statistics import by_module, combined, normalised, statistics_of
from seqedit.models.anatomy import anatomy
from seqedit.models.edited import EditedModel
from seqedit.models.fingerprint import fingerprint
from seqedit.models.loading import load_model
from seqedit.session.merge import merge
from seqedit.session.session import Session
from tests.conftest import REFERENCE

BASE = BaseModel("tiny", "0" * 64)
CONTEXTS = [["{}"], ["It rained. {}"]]
RATE = 1e-4


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    rows = [record["requested_rewrite"] for record in case["records"]]
    return [Request(row["subject"], row["prompt"], row["target_new"]["str"]) for row in rows]


@pytest.fixture(params=["gpt2", "llama"])
def models(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("reference_model" if request.param == "gpt2" else "llama")


@pytest.fixture
def session(tmp_path: Path) -> Any:
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, None, context_templates=CONTEXTS)


def config(**more: Any) -> Any:
    return get_method("ultraedit").config.from_dict({"layers": [1, 2], "learning_rate": RATE, **more})


def compute(models: tuple[Any, Any], requests: list[Request], **more: Any) -> Adapter:
    return compute_adapter(
        *models, requests, "ultraedit", config(**more), base_model=BASE, context_templates=CONTEXTS, seed=0
    )  # fmt: skip


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def traced(models: tuple[Any, Any], requests: list[Request], layers: list[int], tokens: str) -> dict[int, Any]:
    """Inputs and output gradients, written anew: hooks, the mean cross entropy of all answers' tokens, one backward."""
    model, tokenizer = models
    prompts = target_prompts(tokenizer, requests)
    width = max(len(p.ids) for p in prompts)
    ids, mask, labels = (torch.full((len(prompts), width), value) for value in (0, 0, -100))
    for row, p in enumerate(prompts):
        ids[row, : len(p.ids)] = torch.tensor(p.ids)
        mask[row, : len(p.ids)] = 1
        labels[row, p.target_start : p.target_start + len(p.target_ids)] = torch.tensor(p.target_ids)
    seen: dict[int, Any] = {}
    handles, parts = [], anatomy(model)
    for layer in layers:
        module = parts.projections[layer].module

        def keep(module: Any, inputs: Any, output: Any, layer: int = layer) -> None:
            output.retain_grad()
            seen[layer] = inputs[0].detach(), output

        handles.append(module.register_forward_hook(keep))
    with torch.enable_grad():
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
        logits = model(inputs_embeds=embedded, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100]).backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    where = {
        "answer": labels != -100,
        "all": mask.bool(),
        "subject": torch.nn.functional.one_hot(torch.tensor([p.lookup for p in prompts]), width).bool(),
    }[tokens]
    return {layer: (u[where].double(), output.grad[where].double()) for layer, (u, output) in seen.items()}


def public(traces: list[dict[int, Any]], layer: int, rate: float, l2: float = 1.0) -> Tensor:
    """The update of the last batch's rows at a layer, (d_out, d_in), normalised over all rows of all batches."""
    pool = torch.cat([torch.cat(pair, dim=1) for trace in traces for pair in trace.values()])
    H, G = traces[-1][layer]
    rows = (torch.cat([H, G], dim=1) - pool.mean(0)) / pool.std(0)
    hidden, gradient = rows[:, : H.shape[1]], rows[:, H.shape[1] :]
    V = -rate * (hidden * hidden).sum(-1, keepdim=True) * gradient
    return torch.linalg.solve(H.T @ H + l2 * torch.eye(H.shape[1]).double(), H.T @ V).T


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10_000))
def test_statistics_of_parts_combine_to_those_of_all_rows(sizes: list[int], seed: int) -> None:
    parts = [3.0 + drawn(n, 5, seed=seed + i) for i, n in enumerate(sizes)]
    everything = torch.cat(parts)
    total = combined([statistics_of(part) for part in parts])
    assert total[0].tolist() == [len(everything)] * 5
    torch.testing.assert_close(total[1], everything.mean(0), rtol=1e-5, atol=1e-5)
    if len(everything) > 1:
        expected = (everything - everything.mean(0)) / everything.std(0)
        torch.testing.assert_close(normalised(everything, total), expected, rtol=1e-3, atol=1e-3)
    assert by_module([{"a": statistics_of(part)} for part in parts])["a"].dtype == torch.float32


def test_a_component_that_never_varies_is_zero() -> None:
    rows = torch.cat([drawn(4, 2), torch.full((4, 1), 7.0).double()], dim=1)
    found = normalised(rows, combined([statistics_of(rows)]))
    assert torch.equal(found[:, 2], torch.zeros(4).double())
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("rows", [3, 12, 30])
def test_the_least_squares_solution_is_that_of_the_definition(rows: int) -> None:
    H, V = drawn(rows, 12, seed=1), drawn(rows, 5, seed=2)
    B, A = least_squares(H, V, 0.7)
    assert B.shape[1] == min(rows, 12)
    direct = torch.linalg.solve(H.T @ H + 0.7 * torch.eye(12).double(), H.T @ V).T
    torch.testing.assert_close(B @ A, direct, rtol=1e-9, atol=1e-10)
    hidden, gradient = drawn(2, 3), drawn(2, 4, seed=3)
    for v, h, g in zip(step(hidden, gradient, 0.5), hidden, gradient, strict=True):
        torch.testing.assert_close(v, -0.5 * (h @ h) * g)


@pytest.mark.parametrize("tokens", ["answer", "all", "subject"])
def test_an_edit_is_the_published_formula_on_gradients_of_ones_own(
    tokens: str, models: tuple[Any, Any], requests: list[Request]
) -> None:
    layers = [1, 2]
    adapter = compute(models, requests[:4], tokens=tokens, l2=0.5)
    trace = traced(models, requests[:4], layers, tokens)
    names = {layer: anatomy(models[0]).projections[layer].name for layer in layers}
    for layer, name in names.items():
        expected = public([trace], layer, RATE, 0.5)
        error = (adapter.deltas[name].dense().double() - expected).norm() / expected.norm()
        assert float(error) < 2e-3, (layer, float(error))  # of gradients that are near the rounding of float32
    rows = adapter.provenance["normalised_over"]
    assert rows == {"rows": len(trace[1][0]), "earlier_rows": 0}


def test_an_edit_takes_and_leaves_the_model_as_it_was(models: tuple[Any, Any], requests: list[Request]) -> None:
    model, tokenizer = models
    before = fingerprint(model)
    adapter = compute(models, requests[:4], learning_rate=3e-2 if models[0].config.model_type == "llama" else 1e-3)
    assert fingerprint(model) == before
    assert not any(parameter.grad is not None for parameter in model.parameters())
    prompts = target_prompts(tokenizer, requests[:4])
    edited = copy.deepcopy(model)
    apply_adapter(edited, adapter)
    losses = losses_of(edited, prompts)
    assert sum(losses) < 0.85 * sum(losses_of(model, prompts))
    assert adapter.provenance["losses"] == pytest.approx(losses, abs=1e-5)
    assert adapter.keys.keys() == adapter.deltas.keys() == adapter.statistics.keys()
    assert all(len(keys) == 4 for keys in adapter.keys.values())
    tokens = sum(len(prompt.target_ids) for prompt in prompts)
    assert all(isinstance(d, LowRank) and d.rank <= tokens for d in adapter.deltas.values())
    assert adapter.provenance["second_moments"] is None


def test_more_rows_than_dimensions_are_stored_dense(llama: tuple[Any, Any], requests: list[Request]) -> None:
    adapter = compute(llama, requests, tokens="all")
    assert adapter.provenance["normalised_over"]["rows"] > 32
    assert all(isinstance(delta, Dense) for delta in adapter.deltas.values())


def test_a_second_batch_is_normalised_over_both(session: Any, requests: list[Request]) -> None:
    first = traced((session.edited.model, session.edited.tokenizer), requests[:4], [1, 2], "answer")
    session.edit(requests[:4], "ultraedit", config())
    second = traced((session.edited.model, session.edited.tokenizer), requests[4:], [1, 2], "answer")
    # The trace's gradients are of a mean over tokens, the method's of a sum: brought to one scale.
    counts = [len(trace[1][0]) for trace in (first, second)]
    both = [
        {layer: (H, n * G) for layer, (H, G) in trace.items()} for n, trace in zip(counts, (first, second), strict=True)
    ]
    adapter = session.compute(requests[4:], "ultraedit", config())
    for layer in (1, 2):
        expected = public(both, layer, RATE)
        found = adapter.deltas[f"transformer.h.{layer}.mlp.c_proj"].dense().double()
        assert float((found - expected).norm() / expected.norm()) < 2e-3
        alone = public(both[1:], layer, RATE)
        assert float((alone - expected).norm() / expected.norm()) > 0.05
    assert adapter.provenance["normalised_over"] == {"rows": counts[1], "earlier_rows": counts[0]}


def test_a_revert_is_exact_and_what_follows_depends_on_nothing_hidden(session: Any, requests: list[Request]) -> None:
    session.edit(requests[:2], "ultraedit", config())
    before = {p.name: p.matrix().clone() for p in session.edited.parts.projections}
    never = session.compute(requests[4:], "ultraedit", config())
    entry = session.edit(requests[2:4], "ultraedit", config())
    assert session.compute(requests[4:], "ultraedit", config()).digest != never.digest
    session.revert(entry.id)
    assert all(torch.equal(p.matrix(), before[p.name]) for p in session.edited.parts.projections)
    assert session.compute(requests[4:], "ultraedit", config()).digest == never.digest
    fresh = EditedModel(*load_model(str(REFERENCE / "model")))
    other = Session(fresh, session.ledger, None, context_templates=CONTEXTS)
    assert other.compute(requests[4:], "ultraedit", config()).digest == never.digest


def test_it_is_read_back_with_its_statistics_and_a_format_of_its_own(
    reference_model: tuple[Any, Any], requests: list[Request], tmp_path: Path
) -> None:
    adapter = compute(reference_model, requests[:3])
    adapter.save_pretrained(tmp_path / "adapter")
    again = Adapter.from_pretrained(tmp_path / "adapter")
    assert again.digest == adapter.digest
    assert json.loads((tmp_path / "adapter" / "seqedit.json").read_text())["format"] == 2
    for name, statistics in adapter.statistics.items():
        assert torch.equal(again.statistics[name], statistics)
    assert replace(again, statistics={}).digest != adapter.digest
    name = next(iter(adapter.statistics))
    with pytest.raises(InputError, match=f"statistics of module '{name}' are"):
        replace(again, statistics={name: adapter.statistics[name][:, :-1]})
    with pytest.raises(InputError, match="statistics of module 'other' are"):
        replace(again, statistics={"other": adapter.statistics[name]})


def test_stock_peft_loads_it(models: tuple[Any, Any], requests: list[Request], tmp_path: Path) -> None:
    model, tokenizer = copy.deepcopy(models[0]), models[1]
    adapter = compute(models, requests[:4])
    adapter.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([tokenizer(requests[0].text)["input_ids"]])
    dense = copy.deepcopy(model)
    apply_adapter(dense, adapter)
    stock = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=ids).logits, dense(input_ids=ids).logits, rtol=1e-5, atol=2e-5)


def test_a_bundle_carries_the_statistics_to_another_ledger(
    session: Any, requests: list[Request], tmp_path: Path
) -> None:
    made = session.edit(requests[:3], "ultraedit", config())
    write_bundle(session.ledger, plan_bundle(session.ledger, made.id), tmp_path / "history.zip")
    expected = session.compute(requests[3:], "ultraedit", config())
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    import_bundle(tmp_path / "other", tmp_path / "history.zip")
    with Ledger.open(tmp_path / "other") as ledger:
        there = Session(edited, ledger, None, context_templates=CONTEXTS)
        assert there.ledger.adapter("HEAD").digest == session.ledger.adapter(made.id).digest
        assert there.compute(requests[3:], "ultraedit", config()).digest == expected.digest


def test_a_merge_by_sum_has_the_statistics_of_its_parts(session: Any, requests: list[Request]) -> None:
    first = session.edit(requests[:2], "ultraedit", config())
    second = session.edit(requests[2:4], "ultraedit", config())
    parts = [session.ledger.adapter(entry) for entry in (first, second)]
    apart = session.compute(requests[4:], "ultraedit", config())
    merged = session.ledger.adapter(merge(session, session.ledger, [first.id, second.id], "sum").id)
    for name, statistics in merged.statistics.items():
        torch.testing.assert_close(statistics.double(), combined([part.statistics[name] for part in parts]))
    together = session.compute(requests[4:], "ultraedit", config())
    for name, delta in together.deltas.items():
        torch.testing.assert_close(delta.dense(), apart.deltas[name].dense(), rtol=1e-3, atol=1e-6)


def test_what_cannot_be_normalised_or_set_is_refused(reference_model: tuple[Any, Any], requests: list[Request]) -> None:
    prompts = target_prompts(reference_model[1], requests)
    short = next(r for r, p in zip(requests, prompts, strict=True) if len(p.target_ids) == 1)
    with pytest.raises(NumericsError, match="one row has no variance"):
        compute(reference_model, [short], layers=[1])
    last = len(anatomy(reference_model[0]).layers) - 1
    with pytest.raises(NumericsError, match="none of the chosen tokens"):
        compute(reference_model, requests[:2], layers=[last], tokens="subject")
    for setting in ("learning_rate", "l2"):
        with pytest.raises(InputError, match=f"'{setting}'"):
            config(**{setting: 0})
    with pytest.raises(InputError, match="answer"):
        config(tokens="last")


def test_easyedits_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "gpt-j-6B.yaml"
    file.write_text(
        "alg_name: ULTRAEDIT\ninner_params:\n- transformer.h.18.mlp.fc_out\n- transformer.h.19.mlp.fc_out\n"
        "dropout: 0.0\nno_grad_layers: null\nlr: 1e-6\ntoken: mask\nbatch_size: 10\nbatch_size_once: 10\n"
        "editor_batch_size: 1024\nsilent: False\nhalf: true\nresults_dir: ./results\n"
    )
    assert read_hparams(file, "ultraedit") == {"learning_rate": "1e-6", "tokens": "all", "layers": [18, 19]}
    file.write_text("token: ans\n")
    assert read_hparams(file, "ultraedit") == {"tokens": "answer"}
    file.write_text("inner_params: [mlp.fc_out]\n")
    with pytest.raises(InputError, match="the number of their layer"):
        read_hparams(file, "ultraedit")
    file.write_text("inner_params: [model.layers.18.mlp.gate_proj]\n")
    with pytest.raises(InputError, match="FFN output projection"):
        read_hparams(file, "ultraedit")
