"""ROME is the first public code's: an independent reimplementation of it, one prompt at a time, gives the same edit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from seqedit.adapters.adapter import BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.editing.recorded import completed
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.moments.second_moments import SecondMoments
from seqedit.text.lookup import tokenize_kl_prompt, tokenize_request
from tests.conftest import REFERENCE

LAYER = 2
MODULE = f"transformer.h.{LAYER}.mlp.c_proj"
SEVERAL = [["{}"], ["Yesterday the weather was calm. {}", "I do not know why. {}"]]


class Published:
    """ROME (arXiv 2202.05262) as its public code computes it, written anew: delta added to the FFN block's output."""

    def __init__(self, model: Any, tokenizer: Any, request: Request, contexts: Sequence[str], moments: Tensor) -> None:
        self.model, self.block = model, model.transformer.h[LAYER].mlp
        self.prompts = [tokenize_request(tokenizer, request, c, with_target=True) for c in contexts]
        self.bare = tokenize_request(tokenizer, request)
        self.kl = tokenize_kl_prompt(tokenizer, request)
        self.moments = moments.double()

    @contextmanager
    def perturbed(self, lookup: int, delta: Tensor | None, seen: dict[str, Tensor]) -> Iterator[None]:
        def add(module: Any, args: Any, output: Tensor) -> Tensor:
            seen["output"] = output[0, lookup].detach().clone()
            if delta is None:
                return output
            mask = torch.zeros(output.shape[1], 1)
            mask[lookup] = 1.0
            return output + mask * delta

        def look(module: Any, args: Any) -> None:
            seen["key"] = args[0][0, lookup].detach().clone()

        handles = [self.block.register_forward_hook(add), self.block.c_proj.register_forward_pre_hook(look)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self, prompt: Any, delta: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        seen: dict[str, Tensor] = {}
        with self.perturbed(prompt.lookup, delta, seen):
            return self.model(torch.tensor([prompt.ids])).logits[0].log_softmax(-1), seen

    def value(self, *, steps: int, rate: float, decay: float, clamp: float, kl_factor: float) -> Tensor:
        with torch.no_grad():
            init = self.run(self.bare, None)[1]["output"]
            before = self.run(self.kl, None)[0][self.kl.lookup]
        delta = torch.zeros_like(init, requires_grad=True)
        adam = torch.optim.Adam([delta], lr=rate)
        for step in range(steps):
            adam.zero_grad()
            nll = torch.zeros(())
            for prompt in self.prompts:
                logprobs = self.run(prompt, delta)[0][prompt.target_start :]
                nll = nll - logprobs[range(len(prompt.target_ids)), prompt.target_ids].mean() / len(self.prompts)
            after = self.run(self.kl, delta)[0][self.kl.lookup]
            kl = kl_factor * (after.exp() * (after - before)).sum()
            loss = nll + kl + decay * delta.norm() / init.norm() ** 2
            if loss < 5e-2 or step == steps - 1:
                break
            loss.backward()
            adam.step()
            if delta.norm() > clamp * init.norm():
                with torch.no_grad():
                    delta.mul_(clamp * init.norm() / delta.norm())
        return init + delta.detach()

    def update(self, value: Tensor) -> Tensor:
        """(d_out, d_in) update: direction from the templates' mean key, divided by the bare prompt's."""
        with torch.no_grad():
            keys = [self.run(prompt, None)[1]["key"].double() for prompt in self.prompts]
            bare = self.run(self.bare, None)[1]
        left = torch.linalg.solve(self.moments, torch.stack(keys).mean(0))
        left = left / left.norm()
        right = (value.double() - bare["output"].double()) / (bare["key"].double() @ left)
        return torch.outer(right, left)


@pytest.fixture(scope="module")
def request_() -> Request:
    data = json.loads((REFERENCE / "single_layer_batch1" / "case.json").read_text())["records"][0]["requested_rewrite"]
    return Request(data["subject"], data["prompt"], data["target_new"]["str"])


@pytest.mark.parametrize(
    ("contexts", "clamp", "decay", "published_keys"),
    # Without a bound, with one that binds at once, and with a decay that pulls; the bare prompt alone, where the two
    # kinds of keys are one, and several templates.
    [
        ([["{}"]], 40.0, 0.5, False),
        ([["{}"]], 1.0, 0.5, False),
        ([["{}"]], 40.0, 5.0, False),
        (SEVERAL, 4.0, 0.5, True),
    ],
)
def test_rome_equals_the_public_code_s_single_edit_to_1e_4(
    contexts: list[list[str]], clamp: float, decay: float, published_keys: bool,
    request_: Request, reference_model: tuple[Any, Any],
) -> None:  # fmt: skip
    model, tokenizer = reference_model
    moments = load_file(REFERENCE / "second_moments.safetensors")
    config = get_method("rome").config.from_dict(
        {"layers": [LAYER], "steps": 20, "learning_rate": 0.5, "weight_decay": decay, "clamp_norm_factor": clamp,
         "published_keys": published_keys}
    )  # fmt: skip
    flat = [template for group in contexts for template in group]
    public = Published(model, tokenizer, request_, flat, moments[MODULE])
    expected = public.update(public.value(steps=20, rate=0.5, decay=decay, clamp=clamp, kl_factor=0.0625))
    adapter = compute_adapter(
        model, tokenizer, [request_], "rome", config,
        base_model=BaseModel("reference", "0" * 64), second_moments=SecondMoments(moments), context_templates=contexts,
    )  # fmt: skip
    found = adapter.deltas[MODULE].dense().double()
    difference = float((found - expected).norm() / expected.norm())
    assert difference < 1e-4


def test_clamp_and_decay_are_relative_to_the_ffn_output_for_rome_alone() -> None:
    norms = {name: get_method(name).config().init_norm for name in ("rome", "emmet", "memit", "pmet", "alphaedit")}
    assert norms == {
        "rome": "ffn", "emmet": "perturbed", "memit": "perturbed", "pmet": "perturbed", "alphaedit": "perturbed"
    }  # fmt: skip
    with pytest.raises(InputError, match=r"init_norm.*pmet"):
        get_method("pmet").config.from_dict({"init_norm": "ffn"})


def test_a_rome_entry_from_before_keeps_the_meaning_its_settings_had() -> None:
    now = get_method("rome").config(layers=(1,))
    before = {k: v for k, v in now.to_dict().items() if k not in ("init_norm", "published_keys")}
    data = completed({"name": "rome", **before})
    assert data.pop("name") == "rome"
    assert get_method("rome").config.from_dict(data) == replace(now, init_norm="perturbed")
    assert completed({"name": "merge", "how": "sum"}) == {"name": "merge", "how": "sum"}
