"""Spread ``replay``: optimised at the first layer, the others' values by a forward pass (arXiv 2605.00358)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from seqedit.adapters.adapter import Adapter
from seqedit.errors import InputError
from seqedit.history.pick import cherry_pick
from seqedit.keys.measure import measure_keys
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy
from seqedit.models.loading import load_model
from seqedit.session.merge import merge
from seqedit.session.merging import place_of
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.values import optimise_target_values
from seqedit.text.lookup import tokenize_request
from tests.conftest import REFERENCE
from tests.session.test_sequence import CONTEXTS, requests, session

__all__ = ["CONTEXTS", "requests", "session"]
LAYERS = (1, 2, 3)
NAMES = [f"transformer.h.{layer}.mlp.c_proj" for layer in LAYERS]


def config(method: str = "memit", **settings: Any) -> Any:
    base = {"layers": list(LAYERS), "spread": "replay", "steps": 8, "second_moment_weight": 50}
    return get_method(method).config.from_dict({**base, **settings})


def at_lookup(model: Any, tokenizer: Any, asked: Any, inject: Any = None) -> dict[int, torch.Tensor]:
    """Outputs of the blocks at the lookup token, one prompt at a time; that of the first replaced, if asked for."""
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in LAYERS}
    for i, request in enumerate(asked):
        prompt = tokenize_request(tokenizer, request)
        handles = []

        def first(module: Any, args: Any, output: Any, i: int = i, at: int = prompt.lookup) -> Any:
            states = (output[0] if isinstance(output, tuple) else output).clone()
            states[0, at] = inject[i]
            return (states, *output[1:]) if isinstance(output, tuple) else states

        def see(layer: int, at: int) -> Any:
            def hook(module: Any, args: Any, output: Any) -> None:
                found[layer].append((output[0] if isinstance(output, tuple) else output)[0, at].double())

            return hook

        if inject is not None:
            handles.append(model.transformer.h[LAYERS[0]].register_forward_hook(first))
        handles += [model.transformer.h[n].register_forward_hook(see(n, prompt.lookup)) for n in LAYERS]
        with torch.no_grad():
            model(input_ids=torch.tensor([prompt.ids]))
        for handle in handles:
            handle.remove()
    return {layer: torch.stack(rows) for layer, rows in found.items()}


def test_it_is_what_hooks_and_a_least_squares_solve_give(session: Any, requests: Any) -> None:
    asked = requests[:3]
    adapter = session.compute(asked, "memit", config())
    model, tokenizer = load_model(str(REFERENCE / "model"))
    parts = anatomy(model)
    plain = TargetValueConfig.from_dict({"steps": 8})
    values = optimise_target_values(model, parts, tokenizer, asked, CONTEXTS, LAYERS[0], plain).values
    torch.testing.assert_close(adapter.target_values, values)
    targets = at_lookup(model, tokenizer, asked, values)
    torch.testing.assert_close(targets[LAYERS[0]].float(), values)
    for layer, name in zip(LAYERS, NAMES, strict=True):
        R = (targets[layer] - at_lookup(model, tokenizer, asked)[layer]).T
        K = measure_keys(model, parts, tokenizer, asked, CONTEXTS, [layer])[layer].T
        C = 50 * session.moments.matrices[name].double()
        delta = torch.linalg.solve(C + K @ K.T, K @ R.T).T
        torch.testing.assert_close(adapter.deltas[name].dense().double(), delta, rtol=2e-3, atol=2e-5)
        with torch.no_grad():
            model.transformer.h[layer].mlp.c_proj.weight += delta.T.float()


@pytest.mark.parametrize(("method", "more"), [("pmet", {}), ("emmet", {}), ("rome", {}), ("alphaedit", {}),
                                              ("memit", {"sequence": "joint"})])  # fmt: skip
def test_every_closed_form_takes_it_and_each_layer_comes_nearer_to_its_value(
    method: str, more: Any, session: Any, requests: Any
) -> None:
    adapter = session.compute(requests[:2], method, config(method, **more))
    assert sorted(adapter.deltas) == NAMES
    assert all(float(delta.dense().norm()) > 0 for delta in adapter.deltas.values())
    # What the first layer was written with is what the others have left to do.
    sizes = [adapter.provenance["diagnosis"]["size"][name] for name in NAMES]
    if method == "emmet":
        assert sizes[0] > sizes[1] > 0


def test_a_revert_is_exact_and_peft_loads_it(session: Any, requests: Any, tmp_path: Path) -> None:
    before = {name: p.detach().clone() for name, p in session.edited.model.named_parameters()}
    entry = session.edit(requests[:2], "memit", config())
    edited = {name: p.detach().clone() for name, p in session.edited.model.named_parameters()}
    adapter = session.ledger.adapter(entry)
    adapter.save_pretrained(tmp_path / "adapter")
    assert Adapter.from_pretrained(tmp_path / "adapter").digest == adapter.digest
    model, _ = load_model(str(REFERENCE / "model"))
    stock = PeftModel.from_pretrained(model, str(tmp_path / "adapter")).merge_and_unload()
    for name in NAMES:
        torch.testing.assert_close(stock.get_submodule(name).weight, edited[f"{name}.weight"], rtol=1e-5, atol=1e-6)
    session.revert(entry.id)
    assert all(torch.equal(p, before[name]) for name, p in session.edited.model.named_parameters())


def test_stored_values_are_the_first_layers_and_solve_again(session: Any, requests: Any) -> None:
    ledger = session.ledger
    first = session.edit(requests[:2], "memit", config())
    assert place_of(ledger.adapter(first).method) == ("layer output", 1)
    session.revert(first.id)
    picked = cherry_pick(session, ledger, [first.id], "solve")[0]
    for name in NAMES:  # on the same state it is the same
        again, before = (ledger.adapter(entry).deltas[name].dense() for entry in (picked, first))
        torch.testing.assert_close(again, before, rtol=1e-4, atol=1e-6)
    second = session.edit(requests[2:4], "memit", config())
    values = torch.cat([ledger.adapter(entry).target_values for entry in (picked, second)])
    merged = ledger.adapter(merge(session, ledger, [picked.id, second.id], "solve"))
    assert torch.equal(merged.target_values, values)
    together = session.compute_on([], requests[:4], "memit", config(), target_values=values)
    for name in NAMES:
        torch.testing.assert_close(merged.deltas[name].dense(), together.deltas[name].dense(), rtol=1e-5, atol=1e-7)


def test_values_of_the_first_layer_are_not_taken_for_the_lasts(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    second = session.edit(requests[2:4], "memit", config(spread="even"))
    entries = [first.id, second.id]
    with pytest.raises(InputError, match=r"of layer 1, not for the layer output of layer 3"):
        merge(session, session.ledger, entries, "solve", method="memit", config=config(spread="even"))
    summed = merge(session, session.ledger, entries, "sum")
    assert session.ledger.adapter(summed).target_values is None


def test_one_layer_has_nothing_to_replay(session: Any) -> None:
    with pytest.raises(InputError, match=r"spread 'replay'.*choose single"):
        config(layers=[1])
    assert [config(spread=s).target_layers for s in ("replay", "boundary", "even")] == [(1,), (1, 3), (3,)]
