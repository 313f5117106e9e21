"""Which modules are a model's decoder layers, and which linear module of each is its FFN output projection.

Proven on the model: layers are what a short text runs through, and an FFN output projection is what acts as one
(`seqedit.forward.pathways`). Of a model without weights only the module tree can be read; what is found there is a
guess by shapes, good for a plan and never for an edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from seqedit.errors import ModelError
from seqedit.forward.configuration import ffn_widths
from seqedit.forward.pathways import TOKENS, Calls, Candidate, Verdict, prove, trace
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import is_unsupported
from seqedit.models.projection import Projection, check_editable, features, linears, parent


@dataclass(eq=False)
class Blocks:
    """What was found.

    Attributes:
        name: Module name of the list of decoder layers.
        layers: The layers in order.
        projections: FFN output projection of each layer that has one.
        reasons: Why the others have none.
        mixers: Of each layer, names of the linear modules that were seen to write what comes from other tokens too.
        proven: Whether the model was run.
    """

    name: str
    layers: tuple[nn.Module, ...]
    projections: dict[int, Projection] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    mixers: dict[int, str] = field(default_factory=dict)
    proven: bool = False


def find_blocks(model: CausalLM, inner: nn.Module, width: int) -> Blocks:
    """The decoder layers of a model and their FFN output projections.

    Args:
        model: The causal LM, as it is called.
        inner: The model inside a PEFT wrapper, or the model itself.
        width: Features of the residual stream.

    Raises:
        ModelError: no decoder layers, or a model that cannot be run on text alone; says what was seen.
    """
    lists = _layer_lists(inner)
    if not lists:
        raise ModelError(f"{type(inner).__name__}: found no list of decoder layers in the module tree")
    if not _has_weights(model):
        found = _longest(inner, model, lists)
        for index, layer in enumerate(found.layers):
            _guess(found, index, layer, width, ffn_widths(model))
        return found
    modules = {m: None for _, layers in lists for layer in layers for m in (layer, *_called_linears(layer).values())}
    try:
        calls = trace(model, modules)
        found = _that_ran(inner, lists, calls)
        _prove(model, found, calls, width)
    except Exception as error:
        if isinstance(error, ModelError) or not is_unsupported(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{type(inner).__name__} could not be run on a few tokens of text: {type(error).__name__}: {said}"
        ) from error
    _refuse_shared(found)
    found.proven = True
    return found


def _refuse_shared(found: Blocks) -> None:
    """Leave out projections whose weight is another layer's too: an edit would act in both."""
    held: dict[int, list[int]] = {}
    for index, projection in found.projections.items():
        held.setdefault(id(projection.weight), []).append(index)
    for layers in held.values():
        for index in layers if len(layers) > 1 else ():
            name = found.projections.pop(index).name
            others = ", ".join(str(i) for i in layers if i != index)
            found.reasons[index] = f"'{name}' shares its weight with layer {others}, so an edit would act in each"


def _has_weights(model: CausalLM) -> bool:
    """Whether it can be run: its weights are in memory, or accelerate lends them."""
    empty = any(parameter.is_meta for parameter in model.parameters())
    return not empty or any(hasattr(module, "_hf_hook") for module in model.modules())


def _layer_lists(model: nn.Module) -> list[tuple[str, tuple[nn.Module, ...]]]:
    """Lists of blocks that hold linear modules; a list inside one (experts, say) is not another."""
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and "." in name and all(_is_block(m) for m in module)
    ]
    names = [name for name, _ in lists]
    return [(n, tuple(m)) for n, m in lists if not any(n.startswith(f"{other}.") for other in names)]


def _is_block(module: nn.Module) -> bool:
    """Whether a module holds linear modules, and is none itself."""
    return (
        bool(inside := linears(module)) and inside[0][1] is not module and getattr(module, "base_layer", None) is None
    )


def _that_ran(
    model: nn.Module, lists: Sequence[tuple[str, tuple[nn.Module, ...]]], calls: Mapping[nn.Module, Calls]
) -> Blocks:
    """The list that text runs through; a vision part's is not, however long it is."""
    ran = {name: [m for m in layers if m in calls] for name, layers in lists}
    longest = max(map(len, ran.values()))
    best = [(name, layers) for name, layers in lists if len(ran[name]) == longest]
    if not longest:
        raise ModelError(f"{type(model).__name__}: text runs through none of {', '.join(n for n, _ in lists)}")
    if len(best) > 1:
        raise ModelError(
            f"{type(model).__name__}: several lists could be the decoder layers: {', '.join(n for n, _ in best)}"
        )
    name, layers = best[0]
    order = [calls[m].at[0] for m in ran[name]]
    again = next((i for i, m in enumerate(layers) if m in calls and len(calls[m].at) > 1), None)
    if again is not None:
        raise ModelError(
            f"layer '{name}.{again}' runs {len(calls[layers[again]].at)} times for each token, so an edit would act "
            "as often; this model cannot be edited"
        )
    if order != sorted(order):
        raise ModelError(f"the layers of '{name}' do not run in their order; this model cannot be edited")
    return Blocks(name, layers)


def _longest(model: nn.Module, causal: CausalLM, lists: Sequence[tuple[str, tuple[nn.Module, ...]]]) -> Blocks:
    """The longest list, of those that stand beside the token embedding if there are any."""
    tokens = causal.get_input_embeddings()
    beside = [
        (name, layers)
        for name, layers in lists
        if any(m is tokens for m in model.get_submodule(parent(name)).children())
    ]
    some = beside or lists
    length = max(len(layers) for _, layers in some)
    best = [(name, layers) for name, layers in some if len(layers) == length]
    if len(best) > 1:
        raise ModelError(
            f"{type(model).__name__}: several lists could be the decoder layers: {', '.join(n for n, _ in best)}"
        )
    return Blocks(*best[0])


def _called_linears(layer: nn.Module) -> dict[str, nn.Module]:
    """The linear modules of a layer by name, as they are called: a wrapper where one carries a LoRA."""
    return {name: layer.get_submodule(name) for name, _ in linears(layer)}


def _prove(model: CausalLM, found: Blocks, calls: Mapping[nn.Module, Calls], width: int) -> None:
    """Try every layer's candidates at once and keep what is proven."""
    candidates: list[list[Candidate]] = []
    for layer in found.layers:
        named, inside = _called_linears(layer), dict(linears(layer))
        whole = [n for n, m in named.items() if m in calls and len(calls[m].at) == 1]
        order = sorted(whole, key=lambda n: calls[named[n]].at[0])
        some = []
        for place, name in enumerate(order):
            if features(inside[name])[1] == width and calls[named[name]].tokens[0] == TOKENS:
                readers = _readers(name, order[:place])
                some.append(Candidate(name, named[name], tuple(named[r] for r in readers)))
        candidates.append(some)
    others = [list(_called_linears(layer).values()) for layer in found.layers]
    # Of layers that text does not reach nothing can be seen.
    reached = [i for i, layer in enumerate(found.layers) if layer in calls]
    verdicts = prove(
        model, [found.layers[i] for i in reached], [candidates[i] for i in reached], [others[i] for i in reached]
    )
    for index in range(len(found.layers)):
        if index not in reached:
            found.reasons[index] = f"layer '{found.name}.{index}' does not run on text alone"
    for index, told in zip(reached, verdicts, strict=True):
        _decide(found, index, candidates[index], told, calls, width)


def _readers(name: str, before: Sequence[str]) -> list[str]:
    """The linear modules that ran earlier in its block, or in the next larger one where it stands alone in its own."""
    scope = parent(name)
    while True:
        inside = [n for n in before if not scope or n.startswith(f"{scope}.")]
        if inside or not scope:
            return inside
        scope = parent(scope)


def _decide(
    found: Blocks, index: int, candidates: Sequence[Candidate], verdicts: Sequence[Verdict],
    calls: Mapping[nn.Module, Calls], width: int,
) -> None:  # fmt: skip
    """Take a layer's proven projection, or say why there is none."""
    layer, name = found.layers[index], f"{found.name}.{index}"
    tried = list(zip(candidates, verdicts, strict=True))
    mixers = [c.name for c, seen in tried if seen.writes and not seen.by_token]
    if mixers:
        found.mixers[index] = mixers[0]
    proven = [c for c, seen in tried if seen.proven]
    inside = dict(linears(layer))
    experts = _experts(layer, inside, calls, width)
    # Experts that all run on every token are weighted by a router, each by itself none of the layer's feed-forward.
    twins = [c for c in proven if any(_twins(c.name, other.name) for other in proven)]
    if proven and not twins:
        chosen = proven[-1]
        try:
            check_editable(inside[chosen.name], chosen.module, f"{name}.{chosen.name}")
        except ModelError as error:
            found.reasons[index] = str(error)
            return
        found.projections[index] = Projection(f"{name}.{chosen.name}", inside[chosen.name])
        return
    if twins or experts is not None:
        which = experts or f"in '{parent(parent(twins[0].name))}'"
        found.reasons[index] = (
            f"layer '{name}' is a mixture of experts ({which}) without one that every token runs through; which expert "
            "a token takes is the router's choice, so editing a mixture of experts is not supported there"
        )
    elif not tried:
        found.reasons[index] = (
            f"layer '{name}' has no linear module that writes {width} features; quantised or fused feed-forward "
            "weights cannot be edited"
        )
    else:
        found.reasons[index] = f"layer '{name}' has no feed-forward block: {_why(*max(tried, key=_progress))}"


def _progress(one: tuple[Candidate, Verdict]) -> int:
    seen = one[1]
    return 4 * seen.by_token + 2 * seen.activated + seen.writes


def _why(candidate: Candidate, seen: Verdict) -> str:
    """What a candidate lacks, in words."""
    name = candidate.name
    if not seen.one_stream:
        return f"'{name}' writes to a layer that hands on several hidden states of a token, not one residual stream"
    if not seen.by_token:
        return (
            f"'{name}' writes to the residual stream, but what it reads is no function of its token's hidden state "
            "alone (attention, a convolution, a recurrent state, or an embedding of its own)"
        )
    if not seen.activated:
        return f"what '{name}' reads is a linear map, with no activation before it"
    return f"what '{name}' puts out does not reach the residual stream of its token"


def _experts(
    layer: nn.Module, inside: Mapping[str, nn.Module], calls: Mapping[nn.Module, Calls], width: int
) -> str | None:
    """Where a layer's routed experts are, None where it has none."""
    stacked = [n for n, p in layer.named_parameters() if p.ndim == 3 and width in p.shape]
    if stacked:
        return f"stacked in '{stacked[0]}'"
    names = [n for n, m in inside.items() if features(m)[1] == width]
    alike = [n for n in names if sum(_twins(n, other) for other in names) > 0]
    return f"'{alike[0]}' and its like" if alike else None


def _twins(one: str, other: str) -> bool:
    """Whether two modules have the same place in two numbered blocks of one list."""
    mine, theirs = one.split("."), other.split(".")
    if one == other or len(mine) != len(theirs):
        return False
    differ = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    return len(differ) == 1 and all(word.isdigit() for word in differ[0])


def _guess(found: Blocks, index: int, layer: nn.Module, width: int, stated: Sequence[int]) -> None:
    """A layer's FFN output projection by shapes: beside it is only what reads the residual stream and widens it."""
    name, inside = f"{found.name}.{index}", linears(layer)
    fitting = []
    for own, module in inside:
        d_in, d_out = features(module)
        siblings = [features(m) for n, m in inside if n != own and parent(n) == parent(own)]
        expands = 1 <= len(siblings) <= 2 and all(r == width and made in (d_in, 2 * d_in) for r, made in siblings)
        twins = any(_twins(own, n) for n, _ in inside)
        if d_out == width and expands and not twins:
            fitting.append((own, module))
    if fitting:
        own, module = max(fitting, key=lambda one: (features(one[1])[0] in stated, features(one[1])[0]))
        found.projections[index] = Projection(f"{name}.{own}", module)
        return
    experts = _experts(layer, dict(inside), {}, width)
    what = f"is a mixture of experts ({experts})" if experts else "has no feed-forward block that could be found"
    found.reasons[index] = f"layer '{name}' {what}"
