"""Second moments by several processes, each of which runs a share of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Projection
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.second_moments import SecondMoments
from seqedit.parallel.messages import Message
from seqedit.parallel.ranks import Job, Ranks
from seqedit.parallel.replica import Replica
from seqedit.support.shares import ProcessShare
from seqedit.text.plain_text import TextSource


def measure_with(ranks: Ranks | None) -> Callable[..., SecondMoments]:
    """What measures second moments (`seqedit.moments.store.cached_second_moments`): here, or on all ranks."""
    return compute_second_moments if ranks is None else partial(_measure, ranks)


def _measure(
    ranks: Ranks,
    model: CausalLM,
    tokenizer: Tokenizer,
    projections: Sequence[Projection],
    texts: Iterable[str],
    **options: Any,
) -> SecondMoments:
    # Every rank reads the text for itself, so it must be one that has a name.
    if not ranks.holds(model) or not isinstance(texts, TextSource):
        return compute_second_moments(model, tokenizer, projections, texts, **options)
    sums: dict[str, Any] = {}
    tokens = 0
    identity = texts.identity

    def take(answer: Message) -> None:
        nonlocal tokens
        if answer.fields["identity"] != identity:
            raise InputError(f"the text '{texts.name}' is not the same on all machines; give all the same file")
        for name, matrix in answer.tensors.items():
            part = matrix.mul_(answer.fields["tokens"])
            sums[name] = part if name not in sums else sums[name].add_(part)
        tokens += answer.fields["tokens"]

    ranks.run(model, "second_moments", {
        "modules": [projection.name for projection in projections], "options": options,
        "text": texts.name, "column": texts.column,
    }, take)  # fmt: skip
    if not tokens:
        raise InputError(f"the text '{texts.name}' for the second moments holds no tokens; give one with content")
    return SecondMoments({name: (total / tokens).float() for name, total in sums.items()}, tokens)


def _second_moments(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    named = {projection.name: projection for projection in replica.parts.projections}
    source = TextSource(given["text"], given["column"])
    found = compute_second_moments(
        replica.model, replica.tokenizer, [named[name] for name in given["modules"]], source,
        share=(share.rank, share.size), **given["options"],
    )  # fmt: skip
    return Message({"tokens": found.tokens, "identity": source.identity}, found.matrices)


JOBS: Mapping[str, Job] = {"second_moments": _second_moments}
