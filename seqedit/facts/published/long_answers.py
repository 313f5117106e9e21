"""UnKE and AKEW: answers of many sentences (Deng et al., 2024; Wu et al., 2024), and KnowEdit's WikiBio.

UnKE names no subject and edits at the question's last token; the whole question therefore stands as the subject, whose
last token is the lookup token.
"""

from __future__ import annotations

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text
from seqedit.facts.fields import Row, an_object, strings
from seqedit.facts.published.probes import probe, probes_of
from seqedit.facts.published.slots import subject_slot
from seqedit.facts.requests import Neighbor, Probe, Record, Request

LONG = 60
"""Words from which an answer is called long."""


def unke(row: Row) -> Record:
    """``question`` with its ``answer``; the sub-questions about parts of the answer are portability."""
    questions, answers = strings(row, "sub_question"), strings(row, "sub_answer")
    if len(questions) != len(answers):
        raise RequestError("fields 'sub_question' and 'sub_answer' have different lengths")
    probes: list[Probe] = []
    for question, answer in zip(questions, answers, strict=True):
        probes += probe("portability", "sub_question", question, answer, "sub_question")
    request = Request(check_text(row["question"], "question"), "{}", check_text(row["answer"], "answer"),
                      case_id=row.get("id"))  # fmt: skip
    return Record(request, strings(row, "para_question"), probes=tuple(probes))


def akew(row: Row) -> Record:
    """A rewrite with a text about the new fact, ``fact_new_uns``, which is taught; its triples are portability."""
    rewrite = an_object(row["requested_rewrite"], "requested_rewrite")
    subject = rewrite["subject"]
    prompt = rewrite.get("prompt_full") or rewrite["prompt"]
    probes: list[Probe] = []
    for triple in rewrite.get("unsfact_triplets_GPT") or ():
        triple = an_object(triple, "unsfact_triplets_GPT")
        question = check_text(triple["prompt"], "unsfact_triplets_GPT").replace("{}", str(triple["subject"]))
        probes += probe("portability", "triplets", question, triple.get("target"), "unsfact_triplets_GPT")
    probes += probe("locality", "", row.get("loc"), row.get("loc_ans"), "loc")
    request = Request(
        subject, subject_slot(prompt, subject, "prompt"), check_text(rewrite["fact_new_uns"], "fact_new_uns"),
        relation=rewrite.get("relation_id"), case_id=row.get("case_id"),
    )  # fmt: skip
    paraphrases = strings(row, "paraphrase_prompts") or strings(rewrite, "question")
    near = tuple(Neighbor(p.prompt, p.answers[0]) for p in probes if p.kind == "locality" and p.answers)
    return Record(request, paraphrases, near, strings(row, "generation_prompts"), probes=tuple(probes))


def wikibio(row: Row) -> Record:
    """KnowEdit's WikiBio: a passage (``text``) is continued with a true sentence (``labels``) about its ``concept``."""
    subject = row["concept"]
    request = Request(subject, subject_slot(row["text"], subject, "text"), check_text(row["labels"], "labels"))
    probes = probes_of(row)
    near = tuple(Neighbor(p.prompt, p.answers[0]) for p in probes if p.kind == "locality" and p.answers)
    return Record(request, neighborhood_prompts=near, probes=probes)


def sanitation(row: Row) -> Record:
    """KnowEdit's Sanitation: a ``question`` whose answer (``ground_truth``) gives way to ``target_new``."""
    truth = row.get("ground_truth")
    request = Request(check_text(row["question"], "question"), "{}", check_text(row["target_new"], "target_new"),
                      target_true=truth if isinstance(truth, str) and truth.strip() else None)  # fmt: skip
    return Record(request)
