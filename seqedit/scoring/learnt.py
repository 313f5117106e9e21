"""What an edit has taught: of every request, whether the edited model's first choice at the prompt is the target.

This is EM of the batch (`evals.scores.counterfact`), told fact by fact: every token of the target is the argmax of its
position after the request's own prompt, the target's tokens before it given. It costs one forward pass over the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqedit.errors import NumericsError
from seqedit.facts.requests import Request

if TYPE_CHECKING:  # `seqedit show` reads what was learnt, and needs no torch
    from evals.likelihood.teacher_forcing import Scorer
    from seqedit.forward.protocols import CausalLM, Tokenizer

_SHOWN = 10
"""So many facts that were not learnt are named in a line; all are in JSON and the ledger."""


def learnt_of(
    model: CausalLM,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    scorer: Scorer,
    live: Collection[int] | None = None,
) -> dict[str, Any]:
    """What a model has learnt of some requests, as `learnt_from` has it.

    Args:
        model: The edited model.
        tokenizer: Its fast tokenizer.
        requests: The requests; what can be edited has tokens and fits the model.
        scorer: What finds the likelihoods (`evals.likelihood.teacher_forcing.score_continuations`).
        live: Positions of those that no later batch has superseded; None for all.

    Returns:
        As `learnt_from`; where the model's outputs are not finite, nothing was learnt, and "failure" says why.
    """
    from seqedit.text.chat import frame_of
    from seqedit.text.tokenization import prompt_and_target_ids

    frames = {r.chat_template: frame_of(tokenizer, r.chat_template) for r in requests}
    pairs = [
        prompt_and_target_ids(
            tokenizer, r.text, r.target_new, join=r.join, frame=frames[r.chat_template], subject=r.subject
        )
        for r in requests
    ]
    try:
        found = scorer(model, pairs)
    except NumericsError as error:
        return {**learnt_from(requests, [False] * len(requests), live), "failure": str(error)}
    return learnt_from(requests, [continuation.argmax for continuation in found], live)


def learnt_from(
    requests: Sequence[Request], first_choice: Sequence[bool], live: Collection[int] | None = None
) -> dict[str, Any]:
    """What was learnt, as JSON types.

    Args:
        requests: The batch.
        first_choice: Of each, whether the target is the edited model's first choice.
        live: Positions of those that no later batch has superseded, as it may have those of a swap; None for all.

    Returns:
        {"requests", "learnt", "missed", "superseded", "failure" (None)}. Counted are those in force; "superseded" has
        the positions of the others. Of every missed one its "position" in the batch, "subject", "relation", "prompt"
        and "target_new".
    """
    counted = [position for position in range(len(requests)) if live is None or position in live]
    missed = [
        {
            "position": position, "subject": requests[position].subject, "relation": requests[position].relation,
            "prompt": requests[position].prompt, "target_new": requests[position].target_new,
        }
        for position in counted
        if not first_choice[position]
    ]  # fmt: skip
    return {
        "requests": len(counted), "learnt": len(counted) - len(missed), "missed": missed,
        "superseded": sorted(set(range(len(requests))) - set(counted)), "failure": None,
    }  # fmt: skip


def learnt_line(found: Mapping[str, Any]) -> str:
    """One line: "11 of 12 learnt; not learnt: Lyon (twin city)"."""
    line = f"{found['learnt']} of {found['requests']} learnt"
    missed = found["missed"]
    if found.get("failure"):
        return f"{line}: {found['failure']}"
    if missed:
        line += "; not learnt: " + ", ".join(f"{fact['subject']} ({_about(fact)})" for fact in missed[:_SHOWN])
    return line + (f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else "")


def first_choices(found: Mapping[str, Any]) -> list[bool | None]:
    """Of each request of the batch, whether it was learnt; None for one that was superseded."""
    missed, gone = {fact["position"] for fact in found["missed"]}, set(found["superseded"])
    return [None if i in gone else i not in missed for i in range(found["requests"] + len(gone))]


def _about(fact: Mapping[str, Any]) -> str:
    """The relation, or the prompt where none is given; a relation's identifier (P190) names nothing to a reader."""
    relation = fact["relation"]
    named = relation is not None and not (relation[:1] == "P" and relation[1:].isdigit())
    return str(relation if named else fact["prompt"])
