"""Spread ``boundary``: the first and the last layer, each with the residual of target values of its own (BLUE)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqedit.errors import InputError
from seqedit.methods import get_method
from tests.session.test_sequence import CONTEXTS, requests, session

__all__ = ["CONTEXTS", "requests", "session"]


def config(**settings: Any) -> Any:
    base = {"layers": [1, 2, 3], "spread": "boundary", "steps": 8, "second_moment_weight": 50}
    return get_method("memit").config.from_dict({**base, **settings})


def test_it_is_one_single_layer_edit_after_the_other(session: Any, requests: Any) -> None:
    both = session.compute(requests[:3], "memit", config(layers=[1, 2]))
    assert sorted(both.deltas) == ["transformer.h.1.mlp.c_proj", "transformer.h.2.mlp.c_proj"]
    for layer in (1, 2):
        one = session.edit(requests[:3], "memit", config(layers=[layer], spread="single"))
        name = f"transformer.h.{layer}.mlp.c_proj"
        alone = session.ledger.adapter(one).deltas[name].dense()
        torch.testing.assert_close(both.deltas[name].dense(), alone, rtol=1e-5, atol=1e-7)


def test_a_layer_in_between_is_not_written(session: Any, requests: Any) -> None:
    found = session.compute(requests[:2], "memit", config())
    assert sorted(found.deltas) == ["transformer.h.1.mlp.c_proj", "transformer.h.3.mlp.c_proj"]


def test_target_values_of_the_last_layer_alone_are_refused(session: Any, requests: Any) -> None:
    found = session.compute(requests[:2], "memit", config(layers=[1, 2]))
    with pytest.raises(InputError, match="target values at two layers"):
        session.compute_on([], requests[:2], "memit", config(layers=[1, 2]), target_values=found.target_values)


@pytest.mark.parametrize(("method", "settings"), [("memit", {"layers": [1]}), ("rome", {"layers": [1, 2]})])
def test_where_it_cannot_be_it_is_refused(method: str, settings: Any) -> None:
    with pytest.raises(InputError, match="spread 'boundary'"):
        get_method(method).config.from_dict({"spread": "boundary", **settings})
