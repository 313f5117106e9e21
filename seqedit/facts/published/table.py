"""The published layouts: what tells each, what is read of it, and what of it is not scored.

The first layout all of whose telling fields are there reads a row; docs/reference/scores.md shows this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqedit.errors import RequestError
from seqedit.facts.fields import Row
from seqedit.facts.published.languages import is_multilingual, mzsre
from seqedit.facts.published.long_answers import akew, sanitation, unke, wikibio
from seqedit.facts.published.probes import PROBE_FIELDS
from seqedit.facts.published.questions import qaedit, ultraeditbench, wikibigedit
from seqedit.facts.requests import ORIGIN, Record

Convert = Callable[[Row], Record]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        name: What it is called.
        told_by: Fields that tell it, all of them.
        convert: What makes a record of a row; it raises the reason where no row can be edited.
        read: Fields that are read.
        scored: What becomes of them, for the documentation.
        unlike: Fields of which none may be there.
        also: A further condition on a row.
    """

    name: str
    told_by: tuple[str, ...]
    convert: Convert
    read: tuple[str, ...]
    scored: str
    unlike: tuple[str, ...] = ()
    also: Callable[[Row], bool] | None = None

    def tells(self, row: Row) -> bool:
        """Whether a row is of this layout."""
        fits = all(field in row for field in self.told_by) and not any(field in row for field in self.unlike)
        return fits and (self.also is None or self.also(row))

    def unread(self, row: Row) -> list[str]:
        """The row's fields that nothing is made of, in order."""
        return [str(field) for field in row if field not in self.read and field not in (*ORIGIN, "case_id", "id")]


def _convsent(row: Row) -> Record:
    raise RequestError(
        "KnowEdit's ConvSent asks for a sentiment (many texts under 'pos' and 'neg'), not for an answer: there is no "
        "target_new to edit, so it is not read"
    )


def _sanitation_lists(row: Row) -> Record:
    raise RequestError(
        "KnowEdit's Sanitation keeps its facts in the list 'success': write that list into a file of its own "
        "(question, ground_truth, target_new), which is read"
    )


def _a_text_about_the_fact(row: Row) -> bool:
    rewrite = row["requested_rewrite"]
    return isinstance(rewrite, Mapping) and bool(rewrite.get("fact_new_uns"))


LAYOUTS: tuple[Layout, ...] = (
    Layout("MzsRE, Bi-ZsRE", (), mzsre, (), "the first language's fact; each other language's question and rephrasing "
           "as portability/LANGUAGE, follow-up questions as portability/one_hop_LANGUAGE, loc as locality/LANGUAGE",
           also=is_multilingual),
    Layout("WikiBigEdit", ("update", "ans"), wikibigedit,
           ("subject", "update", "ans", "rephrase", "personas", "mhop", "mhop_ans", "loc", "loc_ans"),
           "personas and mhop as portability/personas and portability/mhop, loc as locality and neighbour"),
    Layout("WikiBigEdit (its pipeline's spelling)", ("src", "alt", "mhop"), wikibigedit,
           ("subject", "src", "alt", "rephrase", "genv2_mixed", "mhop", "mhop_ans", "loc", "loc_ans"),
           "genv2_* and mhop as portability/personas and portability/mhop, loc as locality and neighbour",
           unlike=("answers",)),
    Layout("UltraEditBench", ("prompt", "ans"), ultraeditbench,
           ("subject", "prompt", "ans", "rephrase_prompt", "loc", "loc_ans", "random_prompt", "random_ans"),
           "loc, or random_prompt, as locality and neighbour", unlike=("target_new",)),
    Layout("QAEdit", ("prompt", "target"), qaedit, ("subject", "prompt", "target", "rephrase", "locality"),
           "loc of locality as locality and neighbours", unlike=("target_new",)),
    Layout("AKEW", ("requested_rewrite",), akew,
           ("requested_rewrite", "paraphrase_prompts", "generation_prompts", "loc", "loc_ans"),
           "fact_new_uns, the long text, is taught; unsfact_triplets_GPT as portability/triplets, loc as locality",
           also=_a_text_about_the_fact),
    Layout("UnKE", ("question", "answer"), unke, ("question", "answer", "para_question", "sub_question", "sub_answer"),
           "the long answer is taught; sub_question as portability/sub_question", unlike=("target_new",)),
    Layout("KnowEdit WikiBio", ("concept", "text", "labels"), wikibio, ("concept", "text", "labels", *PROBE_FIELDS),
           "labels, a sentence, are taught; locality as locality and neighbours"),
    Layout("KnowEdit Sanitation", ("question", "target_new"), sanitation, ("question", "target_new", "ground_truth"),
           "the question stands as the subject", unlike=("subject",)),
    Layout("KnowEdit Sanitation (its whole file)", ("success",), _sanitation_lists, (), "not read: many facts in one"),
    Layout("KnowEdit ConvSent", ("ent", "pos", "neg"), _convsent, (), "not read: no answer to edit"),
)  # fmt: skip
"""In this order, before the layouts of `seqedit.facts.layouts`."""


def published_layout(row: Row) -> Layout | None:
    """The layout of a row, if it is one of these; a field that is None counts as absent."""
    return next((layout for layout in LAYOUTS if layout.tells(row)), None)
