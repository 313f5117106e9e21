"""Where C0 is taken for the identity no text is read for it, and the edit is that of an identity."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqedit.editing.editor import Editor
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments

FACTS = [Request("Venxa Ulmigri", "{} professionally plays the sport of", "golf")]
SETTINGS = ("steps=2", "shrinkage=1")


@pytest.fixture
def edited(llama: tuple[Any, Any]) -> EditedModel:
    return EditedModel(*llama, name="tiny")


def unasked(layers: tuple[int, ...]) -> SecondMoments:
    raise AssertionError("second moments were asked for")


@pytest.mark.parametrize("method", ["rome", "emmet"])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_constraint_met_exactly_reads_no_second_moments_where_they_are_the_identity(
    edited: EditedModel, method: str, scale: float
) -> None:
    config = method_config(method, layers="1", assignments=[*SETTINGS, "a=0", "protect_earlier=false"])
    assert not get_method(method).reads_second_moments(config)
    found = Editor(edited, unasked, context_templates=[["{}"]]).compute(FACTS, method, config)
    # Shrunk to a multiple of the identity, as it would be with a text: 0.5 of shrinkage leaves it as it is.
    halved = get_method(method).config.from_dict({**config.to_dict(), "shrinkage": 0.5})
    moments = SecondMoments({p.name: scale * torch.eye(p.matrix().shape[1]) for p in edited.parts.projections})
    other = Editor(edited, moments, context_templates=[["{}"]]).compute(FACTS, method, halved)
    for name, delta in found.deltas.items():
        torch.testing.assert_close(delta.dense(), other.deltas[name].dense(), atol=1e-9, rtol=1e-6)
    assert found.provenance["second_moments"] is None


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("rome", ("shrinkage=0.9",)), ("rome", ("protect_earlier=true",)),
        ("rome", ("a=1",)), ("rome", ("protect_following=true",)),
        ("memit", ()), ("alphaedit", ()),
    ],
)  # fmt: skip
def test_second_moments_are_read_wherever_their_size_or_shape_counts(method: str, more: tuple[str, ...]) -> None:
    base = SETTINGS if method != "alphaedit" else SETTINGS[:1]
    config = method_config(method, layers="1", assignments=[*base, *more])
    assert get_method(method).reads_second_moments(config)


def test_without_them_an_edit_that_needs_second_moments_is_refused(edited: EditedModel) -> None:
    config = method_config("rome", layers="1", assignments=["steps=2"])
    with pytest.raises(InputError, match="method 'rome' needs second moments"):
        Editor(edited, None, context_templates=[["{}"]]).compute(FACTS, "rome", config)
