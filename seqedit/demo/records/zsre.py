"""zsRE records about the demo world, in the layout of MEND (Mitchell et al., 2022)."""

from __future__ import annotations

from typing import Any

from seqedit.demo.corpus import natural_question
from seqedit.demo.world import World


def zsre_records(world: World) -> list[dict[str, Any]]:
    """A question-answering record for every fact.

    Args:
        world: the world.

    Returns:
        Records with ``subject``, ``src`` (a question form the model was trained on), ``rephrase`` (the question form
        held out for this fact), ``pred`` and ``answers`` (the true object), ``alt`` (the object to teach), ``loc`` and
        ``loc_ans`` (a question about another subject and relation, with its answer) and ``cond``.
    """
    rng = world.rng("zsre")
    out = []
    for fact in world.facts:
        relation = fact.relation
        source = rng.choice(fact.trained_questions).format(fact.subject)
        new = rng.choice([value for value in relation.objects if value != fact.object])
        other = rng.choice(world.facts)
        while other.subject == fact.subject or other.relation == relation:
            other = rng.choice(world.facts)
        out.append(
            {
                "subject": fact.subject,
                "src": source,
                "pred": fact.object,
                "rephrase": relation.questions[fact.held_out_question].format(fact.subject),
                "alt": new,
                "answers": [fact.object],
                "loc": natural_question(rng.choice(other.trained_questions).format(other.subject)),
                "loc_ans": other.object,
                "cond": f"{fact.object} >> {new} || {source}",
            }
        )
    return out
