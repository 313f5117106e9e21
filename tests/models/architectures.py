"""The architecture matrix: every family as a tiny random model of its real configuration class, and the checks.

``python -m tests.models.architectures --write docs/reference/supported-models.md`` writes the table of the
documentation. What is measured differs from machine to machine in the last digits; everything above `MEASURED` does
not, and a test compares it with the committed page.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.errors import ModelError
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_outputs
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy, features, ranges
from seqedit.moments.second_moments import SecondMoments
from seqedit.targets.sites import LayerOutput
from seqedit.text.lookup import tokenize_request
from tests.models.families import FAMILIES

REFERENCE = Path(__file__).parents[1] / "data" / "reference" / "model"
BOS = "<|endoftext|>"
LAYER = 1
"""The layer that is edited: in the middle, so that layers below and above it take part."""

REQUESTS = (
    Request("Venxa Ulmigri", "{} professionally plays the sport of", "golf"),
    Request("Bado Holul", "The sport of {} is", "rowing"),
    Request("Bribri Drabazor", "It is well known that the sport of {} is", "water polo"),
)
BARE = (("{}",),)
CONTEXTS = (("{}",), ("It rained. {}", "Because of the rain the game stopped. {}"))

WHOLE = (
    "GPT-2", "GPT-J", "GPT-NeoX", "GPT-NeoX, sequential", "OPT", "Llama", "Mistral, sliding window", "Qwen2", "Qwen3",
    "Gemma 2", "Phi", "Phi-3", "Granite", "Falcon, parallel attention", "Falcon, sequential, ALiBi",
    "Falcon, new decoder",
)  # fmt: skip
"""The families that everything is tried on: one for each way to build a layer, the others are variations of."""
EDITED = [name for name, family in FAMILIES.items() if family.refused is None]
REFUSED = [name for name, family in FAMILIES.items() if family.refused is not None]


def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The family's tiny random model, the same at every call."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = getattr(transformers, family.loader).from_config(getattr(transformers, family.config)(**family.fields))
    with torch.no_grad():  # larger weights than the usual 0.02, so that hidden states are worth editing
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.to(dtype).eval()


def load_tokenizer(*, bos: bool = False) -> Any:
    """The reference tokenizer, made to put a BOS before every text if asked."""
    tokenizer = AutoTokenizer.from_pretrained(REFERENCE)
    if bos:
        number = tokenizer.convert_tokens_to_ids(BOS)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, number)]
        )
    return tokenizer


def edit(
    model: Any, tokenizer: Any, method: str = "emmet", *, contexts: Any = BARE, max_tokens: int = 8192, **settings: Any
) -> Adapter:
    """A batch of edits; by default one layer, under the strict constraint."""
    chosen = {
        "layers": [LAYER], "a": 0.0, "steps": 6, "learning_rate": 0.1, "second_moment_weight": 5.0, **settings,
    }  # fmt: skip
    config = get_method(method).config.from_dict(chosen)
    moments = {}
    for projection in anatomy(model).projections_of(chosen["layers"]):
        d_in = projection.matrix().shape[1]
        root = torch.randn(d_in, 2 * d_in, generator=torch.Generator().manual_seed(1))
        moments[projection.name] = root @ root.T / (2 * d_in)
    return compute_adapter(
        model, tokenizer, REQUESTS, method, config, base_model=BaseModel("tiny", "0" * 64),
        second_moments=SecondMoments(moments), context_templates=contexts, max_tokens=max_tokens,
    )  # fmt: skip


def relative(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, Frobenius."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def values_now(model: Any, tokenizer: Any, layer: int = LAYER) -> Tensor:
    """(n, d) what the model has where the target values are to be."""
    return measure_outputs(model, tokenizer, REQUESTS, LayerOutput(anatomy(model), layer).value_module())


def distance_left(model: Any, tokenizer: Any, adapter: Adapter) -> float:
    """How much of the way to the target values is left after the edit: 0 where the constraint is met, 1 for no edit."""
    assert adapter.target_values is not None
    edited = copy.deepcopy(model)
    apply_adapter(edited, adapter)
    wanted = adapter.target_values.double()
    return float((values_now(edited, tokenizer) - wanted).norm() / (values_now(model, tokenizer) - wanted).norm())


def delta_of(adapter: Adapter) -> Tensor:
    """The deltas of all modules as one vector."""
    return torch.cat([adapter.deltas[name].dense().flatten() for name in sorted(adapter.deltas)])


def logits(model: Any, tokenizer: Any) -> Tensor:
    """Logits of the requests' prompts, one after the other."""
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([tokenize_request(tokenizer, r).ids])).logits[0] for r in REQUESTS]
    return torch.cat(rows).float()


def peft_difference(model: Any, tokenizer: Any, adapter: Adapter) -> tuple[float, float]:
    """Largest difference in the logits between stock PEFT and the dense edit, and between dense edit and no edit."""
    dense = copy.deepcopy(model)
    apply_adapter(dense, adapter)
    with tempfile.TemporaryDirectory() as folder:
        adapter.save_pretrained(Path(folder) / "adapter")
        stock = PeftModel.from_pretrained(copy.deepcopy(model), str(Path(folder) / "adapter"))
    found, expected, before = (logits(m, tokenizer) for m in (stock, dense, model))
    return float((found - expected).abs().max()), float((expected - before).abs().max())


def batching_difference(model: Any) -> float:
    """Relative difference of the deltas between two padding sides and batch sizes."""
    deltas = []
    for side, max_tokens in (("right", 8192), ("left", 40)):
        tokenizer = load_tokenizer()
        tokenizer.padding_side = side
        deltas.append(delta_of(edit(model, tokenizer, contexts=CONTEXTS, max_tokens=max_tokens)))
    return relative(deltas[1], deltas[0])


def two_layers(model: Any) -> list[int]:
    """The lowest two layers that can be edited, one where there is but one."""
    return list(anatomy(model).projections.layers[:2])


def structure(name: str) -> str:
    """A family's row of the first table, the same on every machine."""
    family, model = FAMILIES[name], build(name)
    try:
        parts = anatomy(model)
    except ModelError as error:
        return f"| {name} | `{family.config}` | refused | {error} | | | | |"
    edited = parts.projections[LAYER]
    d_in, d_out = features(edited.module)
    value = "layer's output" if parts.adds_output_of(LAYER) else "FFN's output"
    try:
        mixer = f"`{parts.attention_output(LAYER).name}`"
    except ModelError:  # a layer that is a feed-forward block and nothing else
        mixer = "none"
    count = len(parts.layers)
    which = "all" if len(parts.projections) == count else f"{ranges(parts.projections.layers)} of {count}"
    return (
        f"| {name} | `{family.config}` | edited | `{edited.name}` ({type(edited.module).__name__}) | {which} | "
        f"{d_in}, {d_out} | {mixer} | {value} |"
    )


def measured(name: str) -> str:
    """A family's row of the second table."""
    model, tokenizer = build(name), load_tokenizer()
    found = [distance_left(model, tokenizer, edit(model, tokenizer))]
    several = edit(model, tokenizer, "memit", layers=two_layers(model), a=1.0, contexts=CONTEXTS)
    found += [peft_difference(model, tokenizer, several)[0], batching_difference(model)]
    for dtype in (torch.bfloat16, torch.float16):
        half = build(name, dtype)
        found.append(distance_left(half, tokenizer, edit(half, tokenizer)))
    return f"| {name} | " + " | ".join(f"{value:.1e}" for value in found) + " |"


MEASURED = "## Measured\n"
INTRODUCTION = """# Architectures

Written by `python -m tests.models.architectures --write docs/reference/supported-models.md`;
`tests/models/test_architectures.py` checks every row. Each family is a tiny, randomly initialised model of its real
configuration class: that proves the wiring, not how well edits generalise. Other families work too; nothing here goes
by name. What is edited is proven on the loaded model, by two small forward passes (`seqedit.forward.pathways`): the
module runs once on every token; what it reads is a function of its block's input at that token alone, with an
activation in it; what it writes reaches the residual stream of that token without going through another weight. A
model where nothing passes is refused with what was seen. Without weights (`plan`, a dry run) the module tree is
all there is to go by; the proof then comes with the edit.

Columns: what is edited (module of layer 1, its kind), the layers that can be edited, d_in and d_out, what writes the
attention's output (perturbed by PMET; in a hybrid model a convolution's or a state space's), and what the target value
is a value of. Most families add the FFN's output to the residual stream as it is, and z is the layer's output. Where it
is normalised or scaled first (found by trying, layer by layer), z is the FFN's output.
"""
STRUCTURE_HEAD = """
| family | config | | edited module, or the reason | layers | d_in, d_out | attention output | target value |
|---|---|---|---|---|---|---|---|
"""
PLACES = """
**Where upper layers share keys and values** (Gemma 3n, Gemma 4's smaller models: `num_kv_shared_layers`), later tokens
read nothing of a subject's hidden state after the last layer that makes its own keys and values, that layer's own
output included. An edit there or above changes that token alone and cannot teach an answer that comes later: target
values do not converge, whatever the learning rate. Choose layers below it.

## Mixtures of experts, and layers that differ
- **A shared expert** runs on every token, and is edited as any feed-forward block: its key is its own inner value, its
  output is added to that of the experts that the router chose. Where it is weighted first (Qwen2-MoE, Qwen3-Next: a
  sigmoid gate for each token), z is the shared expert's own output, before the gate.
- **Routed experts** are not edited. Their weights are stacked in one three-dimensional parameter, for which one pair of
  LoRA factors for a matrix has no place; and which expert reads a fact's token is the router's choice, which differs
  between a fact's phrasings and moves with the layers below: an edit written into one expert is not read by the others.
- **Dense layers** of a model that mixes both (DeepSeek's first, LFM2-MoE's first, every other of Llama 4 and Jamba) are
  edited; `--layers` must name such layers, and an error lists them. Layers chosen by rule or by `tune` are the
  nearest of them.
- **Models with other parts** (vision, audio) are edited in their language part: the layers that text runs through.
  Those that transformers loads by another class than AutoModelForCausalLM (Qwen2-VL, Qwen3-VL, Mistral 3) can be
  edited from Python, as loaded by AutoModelForImageTextToText; the command line does not load them.

## Weights, devices, wrappers
- **Types**: float32, bfloat16 and float16 weights. Deltas are solved in float64; what is left of the way to z after an
  edit is the rounding of the weights (below). float64 works too, but for eager attention with a sliding window on
  padded rows (Gemma 2): transformers overflows its mask there, and the loss that is not finite is an error.
- **accelerate**: a model dispatched with hooks gives the deltas of the plain one. Layers that are not edited, and
  the embedding, may be offloaded to disk; offloaded weights of an edited layer are refused, because accelerate would
  throw the edit away. (A run with a ledger needs all weights in memory: they are the base model's fingerprint.) Tested
  with CPU and disk only, never with several GPUs.
- **PEFT**: a model wrapped by `get_peft_model` is edited as it stands, LoRA included, also where the LoRA is on the
  edited projection itself: the base layer's weight is what changes. The adapter names the modules of the unwrapped
  model and loads on it. Refused: a wrapper that scales the edited projection (DoRA, IA3), and prompt tuning and its
  like, whose virtual tokens move the lookup token.
- **Tokenizers**: padding side and batch size change nothing; a BOS moves the lookup token by one.

"""
MEASURED_HEAD = """
The families that every check is run on: one for each way to build a layer. The others are held to the same constraint
and to stock PEFT in float32.

One batch of three requests on one CPU thread. Before the edit |h - z| is 0.2 to 0.8 of |z|. *left*: |h - z| after the
edit over |h - z| before it, at a = 0, one layer. *PEFT*: largest difference of the logits between stock PEFT and the
dense edit, two layers edited. *batching*: relative difference of the deltas between a tokenizer that pads right with
one large batch, and one that pads left with small batches.

| family | left, float32 | PEFT | batching | left, bfloat16 | left, float16 |
|---|---|---|---|---|---|
"""


def fixed_part() -> str:
    """The page up to what was measured."""
    return INTRODUCTION + STRUCTURE_HEAD + "\n".join(structure(name) for name in FAMILIES) + "\n" + PLACES


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    page = fixed_part() + MEASURED + MEASURED_HEAD + "\n".join(measured(name) for name in WHOLE) + "\n"
    arguments.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
