"""Layouts of published fact files: CounterFact, EasyEdit and KnowEdit, zsRE (MEND), and the plain one.

CounterFact and multi-CounterFact (Meng et al., 2022 and 2023; ``counterfact.json``, ``multi_counterfact.json``) share
one layout: the second file only leaves out records that contradict each other. docs/reference/scores.md lists
the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seqedit.distribution.plugins import LAYOUTS, plugins
from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import check_storable, check_text, label, short
from seqedit.facts.fields import Row, an_object, as_list, first_answer, strings, template
from seqedit.facts.published.probes import plain_probes, probes_of
from seqedit.facts.published.table import published_layout
from seqedit.facts.requests import ORIGIN, Neighbor, Record, Request
from seqedit.facts.snippets import AttributeSnippets
from seqedit.support.suggestions import did_you_mean

ZSRE_CONVENTIONS = ("mend", "memit", "alt", "answers")
"""What is taught of a zsRE record: ``alt`` (``mend``, or ``alt``: MEND, EasyEdit), or the right answer (``memit``, or
``answers``: ROME, MEMIT, AlphaEdit)."""


def to_record(row: Any, where: str, *, zsre: str = "mend", snippets: AttributeSnippets | None = None) -> Record:
    """One row of any known layout as a record.

    Args:
        row: The row; a field that is None counts as absent, as rows of a `datasets.Dataset` have every column.
        where: Its place, for messages.
        zsre: One of `ZSRE_CONVENTIONS`.
        snippets: Reference texts of CounterFact records by relation and target id; a record's own come first.

    Raises:
        RequestError: it cannot be used; names the place and the field.
    """
    if not isinstance(row, Mapping):
        raise RequestError(f"{where}: expected a JSON object, got {type(row).__name__}")
    row = {name: value for name, value in row.items() if value is not None}
    try:
        convert = layout_of(row)
        record = _zsre(row, zsre) if convert is _zsre else convert(row)
        record = replace(record, request=with_origin(record.request, row, strict=convert is plain))
        if snippets is not None and convert is _counterfact and not record.reference_texts:
            target = row["requested_rewrite"]["target_new"].get("id")
            record = replace(record, reference_texts=snippets.of(record.request.relation, target))
        check_storable(record.to_dict())
        return record
    except KeyError as error:
        raise RequestError(f"{where}: field {error} is missing") from None
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise RequestError(f"{where}: malformed ({error})") from None
    except RecursionError:
        raise RequestError(f"{where}: nested too deeply to be a record") from None


def with_origin(request: Request, row: Row, *, strict: bool = True) -> Request:
    """A request with the row's ``date``, ``source`` and ``note``; those that the request has already stay.

    Args:
        request: The request.
        row: Where they stand; a blank one stands for none.
        strict: Whether one that is no text is refused. A published data set may mean something else by the name.

    Raises:
        RequestError: one of them is no text; names it.
    """
    found: dict[str, str] = {}
    for name in ORIGIN:
        value = row.get(name)
        if value is None or getattr(request, name) is not None or not (strict or isinstance(value, str)):
            continue
        if check_text(value, name).strip():
            found[name] = value
    return replace(request, **found) if found else request


def layout_of(fields: Row) -> Callable[[Row], Record]:
    """Which layout has these fields (or columns).

    Raises:
        RequestError: none.
    """
    # Layouts that a program has registered for its own files come before the benchmarks of `published.table`.
    added = {*(name for name, _ in _LAYOUTS if name not in _PUBLISHED), *plugins(LAYOUTS)}
    benchmark = None if added & set(fields) else published_layout(fields)
    if benchmark is not None:
        return benchmark.convert
    for name, convert in (*_LAYOUTS, *plugins(LAYOUTS).items(), *_PLAIN):
        if name in fields:
            return convert
    names = ", ".join(sorted(label(name) for name in fields)[:8])
    raise RequestError(
        f"unknown layout with fields {names or '(none)'}; known are CounterFact (requested_rewrite), EasyEdit (prompt, "
        "target_new, rephrase_prompt), zsRE (src, alt) and plain JSONL (subject, prompt, target_new)" + _added()
    )


def _added() -> str:
    """The layouts that are registered or plugged in beside the published ones, for a message."""
    names = [*(name for name, _ in _LAYOUTS if name not in _PUBLISHED), *plugins(LAYOUTS)]
    return f"; and those with field {', '.join(names)}" if names else ""


def register(field: str) -> Callable[[Callable[[Row], Record]], Callable[[Row], Record]]:
    """Decorator that adds a layout after those that are there: it reads rows with its field and none of theirs.

    The function makes a `Record` of a row. It raises `RequestError` for what it cannot use; a missing field may be a
    ``KeyError``. Another distribution names its function in the entry points ``seqedit.layouts``, under the field.

    Args:
        field: The field that tells the layout from the others.

    Raises:
        ValueError: a layout is told by this field already.
    """

    def add(convert: Callable[[Row], Record]) -> Callable[[Row], Record]:
        global _LAYOUTS
        if field in dict((*_LAYOUTS, *_PLAIN)):
            raise ValueError(f"a layout with field '{field}' is registered already")
        _LAYOUTS = (*_LAYOUTS, (field, convert))
        return convert

    return add


def check_convention(zsre: str) -> None:
    """Refuse an unknown zsRE convention."""
    if zsre not in ZSRE_CONVENTIONS:
        hint = did_you_mean(str(zsre), ZSRE_CONVENTIONS)
        raise InputError(f"unknown zsRE convention {short(zsre)}; known: {', '.join(ZSRE_CONVENTIONS)}{hint}")


def _counterfact(row: Row) -> Record:
    rewrite = an_object(row["requested_rewrite"], "requested_rewrite")
    true = rewrite.get("target_true")
    request = Request(
        subject=rewrite["subject"],
        prompt=rewrite["prompt"],
        target_new=an_object(rewrite["target_new"], "target_new")["str"],
        # A Hub dataset has the struct also where its parts are all null.
        target_true=an_object(true, "target_true").get("str") if true else None,
        relation=rewrite.get("relation_id"),
        case_id=row.get("case_id"),
    )
    return _with_prompts(request, row)


def _zsre(row: Row, convention: str = "mend") -> Record:
    answers = strings(row, "answers")
    published = convention in ("memit", "answers")
    if published and not answers:
        raise KeyError("answers")
    request = Request(
        subject=row["subject"],
        prompt=template(row["src"], row["subject"], "src"),
        target_new=answers[0] if published else check_text(row["alt"], "alt"),
        # ROME and MEMIT teach the right answer and have no other to compare it with.
        target_true=None if published else (answers[0] if answers else row.get("pred") or None),
        case_id=row.get("case_id"),
    )
    near: tuple[Neighbor, ...] = ()
    if row.get("loc") and row.get("loc_ans"):
        prompt = check_text(row["loc"], "loc")
        if published and not prompt.endswith("?"):
            prompt += "?"
        near = (Neighbor(prompt, check_text(row["loc_ans"], "loc_ans")),)
    return Record(request, strings(row, "rephrase"), near, probes=probes_of(row))


def _easyedit(row: Row) -> Record:
    request = _filled_in(row, target_true=first_answer(row.get("ground_truth"), "ground_truth"), relation="relation_id")
    prompts, truths = strings(row, "locality_prompt"), strings(row, "locality_ground_truth")
    if truths and len(truths) != len(prompts):
        raise RequestError("fields 'locality_prompt' and 'locality_ground_truth' have different lengths")
    near = tuple(Neighbor(p, truths[i] if truths else None) for i, p in enumerate(prompts))
    rephrased = strings(row, "rephrase_prompt") or strings(row, "rephrase")
    return Record(request, rephrased, near + _locality(row), probes=probes_of(row))


def _locality(row: Row) -> tuple[Neighbor, ...]:
    """KnowEdit's ``locality``: kind -> list of {prompt, ground_truth}; EasyEdit's own: kind -> two lists."""
    near = []
    for kind, items in an_object(row.get("locality") or {}, "locality").items():
        kind = label(kind)
        if isinstance(items, Mapping):
            prompts, truths = as_list(items["prompt"]), as_list(items["ground_truth"])
            if len(prompts) != len(truths):
                raise RequestError(f"field 'locality.{kind}': prompt and ground_truth have different lengths")
            items = [{"prompt": p, "ground_truth": t} for p, t in zip(prompts, truths, strict=True)]
        for item in items or ():
            item = an_object(item, f"locality.{kind}")
            truth = first_answer(item.get("ground_truth"), f"locality.{kind}.ground_truth")
            # Without its own answer it would be scored by the edited fact's, which is about another relation.
            if truth is not None:
                near.append(Neighbor(check_text(item["prompt"], f"locality.{kind}.prompt"), truth))
    return tuple(near)


def plain(row: Row) -> Record:
    """The plain layout: the columns of `seqedit.facts.arrow.FEATURES`, all but three of them optional."""
    request = _filled_in(row, target_true=row.get("target_true"), relation="relation")
    return _with_prompts(request, row)


def _filled_in(row: Row, *, target_true: str | None, relation: str) -> Request:
    """A request from a flat row, whose prompt may have the subject filled in already."""
    return Request(
        subject=row["subject"],
        prompt=template(row["prompt"], row["subject"]),
        target_new=row["target_new"],
        target_true=target_true,
        relation=row.get(relation),
        case_id=row.get("case_id", row.get("case_name")),
    )


def _with_prompts(request: Request, row: Row) -> Record:
    """A record with the prompts that CounterFact and the plain layout name alike."""
    near = row.get("neighborhood_prompts") or ()
    if isinstance(near, Sequence) and any(isinstance(item, Mapping) for item in near):
        objects = [an_object(item, "neighborhood_prompts") for item in near]
        neighbors = tuple(Neighbor(item["prompt"], item.get("target_true")) for item in objects)
    else:
        neighbors = tuple(Neighbor(p) for p in strings(row, "neighborhood_prompts"))
    return Record(
        request,
        strings(row, "paraphrase_prompts"),
        neighbors,
        strings(row, "generation_prompts"),
        strings(row, "reference_texts"),
        plain_probes(row.get("probes")),
    )


# The first layout whose telling field is there reads the row.
_LAYOUTS: tuple[tuple[str, Callable[[Row], Record]], ...] = (
    ("requested_rewrite", _counterfact),
    ("src", _zsre),
    ("rephrase_prompt", _easyedit),
    ("locality_prompt", _easyedit),
    ("locality", _easyedit),
    ("portability", _easyedit),
    ("portability_prompt", _easyedit),
    ("ground_truth", _easyedit),
)
"""A field that tells a layout, and what makes a record of its rows; `register` adds to them, and those that other
distributions name in their entry points come after."""
_PLAIN = (("target_new", plain), ("prompt", plain))
_PUBLISHED = frozenset(name for name, _ in _LAYOUTS)
