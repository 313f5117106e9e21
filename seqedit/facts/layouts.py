"""Layouts of published fact files: CounterFact, EasyEdit and KnowEdit, zsRE (MEND), and the plain one.

CounterFact and multi-CounterFact (Meng et al., 2022 and 2023; ``counterfact.json``, ``multi_counterfact.json``) share
one layout: the second file only leaves out records that contradict each other. docs/reference/scores.md lists
the fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqedit.distribution.plugins import LAYOUTS, plugins
from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import check_storable, check_text, label, short
from seqedit.facts.fields import FieldFault, Row, an_object, as_list, first_answer, made_request, strings, template
from seqedit.facts.published.probes import plain_probes, probes_of
from seqedit.facts.published.table import published_layout
from seqedit.facts.reading.spellings import EASYEDIT, TRACING, spelled
from seqedit.facts.requests import ORIGIN, Neighbor, Record, Request
from seqedit.facts.snippets import AttributeSnippets
from seqedit.support.suggestions import closest, did_you_mean

ZSRE_CONVENTIONS = ("mend", "memit", "alt", "answers")
"""What is taught of a zsRE record: ``alt`` (``mend``, or ``alt``: MEND, EasyEdit), or the right answer (``memit``, or
``answers``: ROME, MEMIT, AlphaEdit)."""


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes:
        name: What messages call it.
        told_by: A field that only its rows have.
        needs: Fields without which no row is of it.
        convert: What makes a record of its rows.
        family: Layouts of one family may stand in one file; None for one that may stand with any, whose rows only
            whoever registered it can tell from others.
    """

    name: str
    told_by: str
    needs: tuple[str, ...]
    convert: Callable[[Row], Record]
    family: str | None

    def fits(self, row: Row) -> bool:
        """Whether a row has all that is needed, be it null."""
        return all(name in row for name in self.needs)


def to_record(
    row: Any,
    where: str,
    *,
    zsre: str = "mend",
    snippets: AttributeSnippets | None = None,
    layout: Layout | None = None,
) -> Record:
    """One row of any known layout as a record.

    Args:
        row: The row; a field that is None counts as absent, as rows of a `datasets.Dataset` have every column.
        where: Its place, for messages.
        zsre: One of `ZSRE_CONVENTIONS`.
        snippets: Reference texts of CounterFact records by relation and target id; a record's own come first.
        layout: Its layout; None for the one that its fields tell.

    Raises:
        RequestError: it cannot be used; names the place and the field.
    """
    if not isinstance(row, Mapping):
        raise RequestError(f"{where}: expected a JSON object, got {type(row).__name__}")
    row = {name: value for name, value in row.items() if value is not None}
    try:
        convert = layout_of(row) if layout is None else layout.convert
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
        # A request built by itself calls itself so; here its place is known.
        message = re.sub(r"^request(?: [^:]{0,120})?: ", "", str(error))
        if isinstance(error, FieldFault):
            raise FieldFault(f"{where}: {message}", error.kind) from None
        raise RequestError(f"{where}: {message}") from None
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
    found = layouts_with(fields)
    if not found:
        raise RequestError(unknown_layout(fields))
    return next((layout for layout in found if layout.fits(fields)), found[0]).convert


def known_layouts() -> list[Layout]:
    """All layouts that one field tells, in the order in which they are tried; without the benchmarks' (`published`)."""
    found = []
    for told_by, convert in (*_LAYOUTS, *plugins(LAYOUTS).items(), *_PLAIN):
        name, needs, family = _ABOUT.get(convert, (f"the layout with field '{told_by}'", (told_by,), None))
        found.append(Layout(name, told_by, needs, convert, family))
    return found


def layouts_with(fields: Row) -> list[Layout]:
    """The layouts that some fields (or columns) tell of, the first first."""
    found = [layout for layout in known_layouts() if layout.told_by in fields]
    # Layouts that a program has registered for its own files come before the benchmarks of `published.table`.
    added = {*(name for name, _ in _LAYOUTS if name not in _PUBLISHED), *plugins(LAYOUTS)}
    benchmark = None if added & set(fields) else published_layout(fields)
    if benchmark is None:
        return found
    needs = benchmark.told_by
    return [Layout(benchmark.name, needs[0] if needs else "", needs, benchmark.convert, None), *found]


def unknown_layout(fields: Row) -> str:
    """What to say of fields of no known layout: they, the layout that is nearest, and what it lacks."""
    names = ", ".join(sorted(label(name) for name in fields)[:8])
    if len(fields) > 8:
        names += f" and {len(fields) - 8} more"
    told = f"{names or '(none)'}{_around(fields)}{_nearest(fields)}"
    return (
        f"unknown layout with fields {told}; known are CounterFact (requested_rewrite), "
        "EasyEdit (prompt, target_new, rephrase_prompt), zsRE (src, alt) and plain JSONL (subject, prompt, target_new)"
        + _added()
    )


def _around(fields: Row) -> str:
    """What to say of an object around the records, such as {"data": [...]}."""
    for name, value in fields.items():
        if (
            isinstance(value, list)
            and value
            and all(isinstance(item, Mapping) and layouts_with(item) for item in value[:3])
        ):
            return f"; its '{label(name)}' is a list of records: write that list alone"
    inner = list(fields.values())[:3]
    if inner and all(isinstance(item, Mapping) and any(one.fits(item) for one in layouts_with(item)) for item in inner):
        return "; its values are records: write them as a list"
    return ""


def _nearest(fields: Row) -> str:
    """The layout that some fields come nearest to, and what they lack of it; nothing where they are like none."""

    def likeness(layout: Layout) -> tuple[float, bool]:
        return sum(name in fields for name in layout.needs) / len(layout.needs), layout.told_by in fields

    given, fields = fields, {str(name).lower(): value for name, value in fields.items()}
    best = max(known_layouts(), key=likeness)
    if likeness(best) == (0, False):
        return ""
    lacking = [name for name in best.needs if name not in given]
    near = [other for name in lacking if (other := closest(name, map(str, given), cutoff=0.7))]
    meant = f" (not read: {', '.join(label(name) for name in near)})" if near else ""
    return f"; nearest is {best.name}, of which it lacks {', '.join(lacking)}{meant}"


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
    request = made_request(
        {"relation": "relation_id"},
        subject=rewrite["subject"],
        prompt=rewrite["prompt"],
        target_new=an_object(rewrite["target_new"], "target_new")["str"],
        # A Hub dataset has the struct also where its parts are all null.
        target_true=an_object(true, "target_true").get("str") if true else None,
        relation=rewrite.get("relation_id"),
        case_id=row.get("case_id"),
    )
    return _with_prompts(request, row)


def _tracing(row: Row) -> Record:
    """CounterFact as rows for causal tracing: the template, and both answers with the space that stands before them."""
    name, target = spelled(row, "prompt", TRACING), spelled(row, "target_new", TRACING)
    subject = check_text(row["subject"], "subject").strip()
    request = made_request(
        {"prompt": name, "target_new": target, "relation": "relation_id"},
        subject=subject,
        prompt=template(row[name], subject, name),
        target_new=row[target],
        target_true=row.get("target_true"),
        relation=row.get("relation_id"),
        case_id=row.get("case_id"),
    )
    return Record(request)


def _zsre(row: Row, convention: str = "mend") -> Record:
    answers = strings(row, "answers")
    published = convention in ("memit", "answers")
    if published and not answers:
        raise KeyError("answers")
    names = {"prompt": "src", "target_new": "alt", "target_true": "answers" if answers else "pred"}
    request = made_request(
        names | ({"target_new": "answers"} if published else {}),
        subject=row["subject"],
        prompt=template(row["src"], row["subject"], "src"),
        target_new=answers[0] if published else row["alt"],
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
    true = first_answer(row.get("ground_truth"), "ground_truth")
    request = _filled_in(row, true, target_true="ground_truth", relation="relation_id")
    prompts, truths = strings(row, "locality_prompt"), strings(row, "locality_ground_truth")
    if truths and len(truths) != len(prompts):
        raise RequestError("fields 'locality_prompt' and 'locality_ground_truth' have different lengths")
    near = tuple(Neighbor(p, truths[i] if truths else None) for i, p in enumerate(prompts))
    # A blank one stands for none.
    rephrased = next((found for name in EASYEDIT["rephrase_prompt"] if (found := strings(row, name))), ())
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
    request = _filled_in(row, row.get("target_true"), target_true="target_true", relation="relation")
    return _with_prompts(request, row)


def _filled_in(row: Row, true: str | None, **names: str) -> Request:
    """A request from a flat row, whose prompt may have the subject filled in already."""
    return made_request(
        names,
        subject=row["subject"],
        prompt=template(row["prompt"], row["subject"]),
        target_new=row["target_new"],
        target_true=true,
        relation=row.get(names["relation"]),
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
    ("target_false", _tracing),
)
"""A field that tells a layout, and what makes a record of its rows; `register` adds to them, and those that other
distributions name in their entry points come after."""
_PLAIN = (("target_new", plain), ("prompt", plain))
_PUBLISHED = frozenset(name for name, _ in _LAYOUTS)
_FLAT = ("subject", "prompt", "target_new")
_ABOUT: Mapping[Callable[[Row], Record], tuple[str, tuple[str, ...], str | None]] = {
    _counterfact: ("CounterFact", ("requested_rewrite",), "CounterFact"),
    _zsre: ("zsRE", ("subject", "src"), "zsRE"),
    _easyedit: ("EasyEdit", _FLAT, "plain JSONL or EasyEdit"),
    _tracing: ("CounterFact for tracing", ("subject", "prompt", "target_false"), "CounterFact for tracing"),
    plain: ("plain JSONL", _FLAT, "plain JSONL or EasyEdit"),
}
"""Name, needed fields and family of the published layouts; one that is registered needs the field that tells it."""
