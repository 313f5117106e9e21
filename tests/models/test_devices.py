"""Where a model is put."""

from __future__ import annotations

import pytest
import torch

from seqedit.errors import InputError
from seqedit.models.loading import DEVICE_MAPS, load_model
from tests.models.architectures import REFERENCE


@pytest.mark.parametrize("device", DEVICE_MAPS)
def test_a_spread_model_holds_the_same_weights_in_memory(device: str) -> None:
    spread, _ = load_model(str(REFERENCE), device=device)
    plain, _ = load_model(str(REFERENCE), device="cpu")
    found = spread.state_dict()
    for name, weight in plain.state_dict().items():
        assert torch.equal(found[name].cpu(), weight)


@pytest.mark.parametrize("device", ["no-such-device", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here"):
        load_model(str(REFERENCE), device=device)
