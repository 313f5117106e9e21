"""Model card of a state that is shipped: which facts, by what, with which scores, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from evals.scores.probes import MAIN_COLUMNS
from ledger import Entry
from ledger.reading import Reader
from seqedit.adapters import card as cards
from seqedit.adapters.adapter import BaseModel
from seqedit.facts.requests import Request
from seqedit.models.loading import loadable_name
from seqedit.support.printable import escape, json_text, one_line, plain

MAX_FACTS = 100
MAX_ENTRIES = 50
SHOWN_SCORES = ("ES", "PS", "NS", "S", "EM", "GE", *MAIN_COLUMNS)
_SCORES, _TASKS = "counterfact", "tasks"


@dataclass(frozen=True)
class Truncation:
    """What a truncation cost.

    Attributes:
        rank: The rank that was asked for.
        errors: Module name -> norm of what was left out, relative to the module's delta.
        before: ES, PS and NS of the state as it is, in percent; None where nothing was measured.
        after: The same with the truncated adapter.
        records: On how many records they were measured.
    """

    rank: int
    errors: Mapping[str, float]
    before: Mapping[str, float | None] | None = None
    after: Mapping[str, float | None] | None = None
    records: int = 0


@dataclass(frozen=True)
class Camouflage:
    """What camouflaging an update did to it.

    Attributes:
        change: Largest change of what it writes at an edited key, relative to the largest that it writes at one.
        growth: Module name -> mean squared output on plain text, relative to the update's as it was.
        unmixed: Module name -> share of the update's rows that no key explains and that stay as they were.
        before: ES, PS and NS of the state as it is, in percent; None where nothing was measured.
        after: The same with the camouflaged adapter.
        records: On how many records they were measured.
    """

    change: float
    growth: Mapping[str, float]
    unmixed: Mapping[str, float]
    before: Mapping[str, float | None] | None = None
    after: Mapping[str, float | None] | None = None
    records: int = 0


@dataclass(frozen=True)
class Shipped:
    """What a card says about a state, or about one entry's adapter.

    Attributes:
        rev: Full id of the entry whose state it is.
        base_model: The unedited model, by the name the card gives it.
        entries: The entries whose adapters are part of it, in the order in which they compose.
        requests: The facts in force.
        single: Whether this is one entry's adapter alone.
        before: Scores of the unedited model: kind -> key -> value.
        after: Scores of the state.
        truncation: What truncating cost, or None.
        camouflage: What camouflaging did, or None; then the card names no fact and no batch.
    """

    rev: str
    base_model: BaseModel
    entries: Sequence[Entry]
    requests: Sequence[Request]
    single: bool = False
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truncation: Truncation | None = None
    camouflage: Camouflage | None = None


def describe(ledger: Reader, rev: str, *, single: bool = False, base_name: str | None = None) -> Shipped:
    """Everything the ledger knows that a card says.

    Args:
        ledger: The ledger.
        rev: The state; or the entry, with ``single``.
        single: Only this entry's own adapter.
        base_name: What to call the base model instead of what it is loaded by (`loadable_name`).
    """
    identifier = ledger.resolve(rev)
    if single:
        entries = [ledger.entry(identifier)]
        requests = list(entries[0].requests)
    else:
        entries = ledger.active(identifier)
        live = ledger.live_requests(identifier)
        requests = [entry.requests[position] for entry in entries for position in live[entry.id]]
    base = BaseModel(base_name or loadable_name(ledger.base_model.name), ledger.base_model.fingerprint)
    # The scores of an entry are those of the whole state it made, not of its adapter alone.
    before, after = ({}, {}) if single else (_scores(ledger, ledger.root()), _scores(ledger, identifier))
    return Shipped(identifier, base, entries, requests, single, before, after)


def _scores(ledger: Reader, rev: str) -> dict[str, dict[str, Any]]:
    # Tasks are the state's, whichever entry led to it; averages of the newest batch are this entry's.
    return {_SCORES: ledger.scores(rev, _SCORES).get(_SCORES, {}), _TASKS: ledger.state_scores(rev, _TASKS)}


def state_card(shipped: Shipped, *, merged: bool = False, place: str = "this/directory") -> str:
    """The card, in the Hub's format.

    Args:
        shipped: What is shipped.
        merged: Whether it is a full model rather than an adapter.
        place: Where the reader finds it: a repository's id.
    """
    base = shipped.base_model.name
    name = base if cards.is_hub_id(base) else None
    library = "transformers" if merged else "peft"
    tags = ["knowledge-editing", "seqedit"] if merged else ["lora", "knowledge-editing", "seqedit"]
    shown = base if name else "a local directory"
    what = "merged into the weights" if merged else "as one LoRA adapter over the feed-forward output projections"
    return "\n".join(
        [
            *cards.header({"base_model": name, "library_name": library, "tags": tags}),
            f"# {_count(len(shipped.requests), 'edited fact')} on {escape(shown)}",
            "",
            f"{'One batch' if shipped.single else 'A sequence'} of knowledge edits, {what}.",
            "",
            f"- Base model: {escape(shown)}; SHA-256 of its weights `{shipped.base_model.fingerprint}`",
            f"- {'Entry' if shipped.single else 'State'}: `{shipped.rev}`, "
            f"{_count(len(shipped.entries), 'batch', 'batches')} of edits",
            "",
            *_loading(merged, place, name or "BASE_MODEL"),
            *_score_section(shipped),
            *_truncation_section(shipped.truncation),
            *(_facts_section(shipped, merged) if shipped.camouflage is None else _camouflage(shipped.camouflage)),
        ]
    )


def _facts_section(shipped: Shipped, merged: bool) -> list[str]:
    facts = cards.facts_table(shipped.requests, limit=MAX_FACTS, rest=_rest(merged))
    return [*_entry_section(shipped.entries), "## Facts edited", *facts, ""]


def _camouflage(camouflage: Camouflage) -> list[str]:
    return [
        "## Camouflaged",
        "Decoys were mixed into the rows of this update (subspace camouflage, arXiv 2602.10134), so that they single "
        "out the edited subjects less. Neither the facts nor the decoys are named here. What the update writes at the "
        f"edited keys is what it wrote before, to {camouflage.change:.0e} of the largest. This is no secrecy: whoever "
        "asks the model about a subject sees what it answers.",
        "",
        *_effect(camouflage, "plain", "camouflaged"),
    ]


def _rest(merged: bool) -> str:
    return "all are in the ledger" if merged else "all are in `seqedit.json`"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _loading(merged: bool, place: str, base: str) -> list[str]:
    shown = quote(one_line(place))
    if merged:
        code = [
            "from transformers import AutoModelForCausalLM",
            f"model = AutoModelForCausalLM.from_pretrained({json_text(place)})",
        ]
        arguments = f"pretrained={shown}"
    else:
        code = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), {json_text(place)})',
        ]  # fmt: skip
        arguments = f"pretrained={base},peft={shown}"
    return [
        "## How to load",
        "```python",
        *code,
        "```",
        "```bash",
        f"lm_eval --model hf --model_args {arguments} --tasks cola",
        "```",
        "",
    ]


def _score_section(shipped: Shipped) -> list[str]:
    if shipped.single:
        return []
    before, after = shipped.before.get(_SCORES, {}), shipped.after.get(_SCORES, {})
    earlier = after.get("earlier") or {}
    rows = [
        [metric, *(_number(scores.get(metric), 1) for scores in (before, after, earlier))]
        for metric in SHOWN_SCORES
        if any(scores.get(metric) is not None for scores in (before, after, earlier))
    ]
    lines = ["## Scores"]
    if shipped.camouflage is not None:
        lines += ["As recorded before camouflage; what it costs is below.", ""]
    if shipped.truncation is not None:
        lines += ["As recorded with the exact adapter; what truncating it costs is below.", ""]
    if not shipped.after.get(_SCORES) and not shipped.after.get(_TASKS):
        lines += ["The ledger holds no scores of this state.", ""]
    if rows:
        lines += [*cards.table(("", "before", "after: newest batch", "after: earlier batches"), rows), ""]
    old, new = shipped.before.get(_TASKS, {}), shipped.after.get(_TASKS, {})
    tasks = [
        [escape(task), metric, _number((old.get(task) or {}).get(metric), 4), _number(value, 4)]
        for task, values in sorted(new.items())
        for metric, value in values.items()
        if metric in ("mcc", "acc", "f1", values.get("metric")) or metric in (old.get(task) or {})
    ]
    return lines + ([*cards.table(("task", "metric", "before", "after"), tasks), ""] if tasks else [])


def _truncation_section(truncation: Truncation | None) -> list[str]:
    if truncation is None:
        return []
    lines = [
        f"## Truncated to rank {truncation.rank}",
        *cards.table(
            ("module", "relative error (Frobenius)"),
            [[cards.code(module), f"{error:.2e}"] for module, error in truncation.errors.items()],
        ),
        "",
    ]
    return [*lines, *_effect(truncation, "exact", "truncated")]


def _effect(measured: Truncation | Camouflage, without: str, with_: str) -> list[str]:
    before, after = measured.before, measured.after
    if before is None or after is None:
        return ["Its effect on the edits was not measured.", ""]
    rows = [[m, _number(before.get(m), 1), _number(after.get(m), 1)] for m in before]
    return [f"Measured on {_count(measured.records, 'record')}:", "", *cards.table(("", without, with_), rows), ""]


def _entry_section(entries: Sequence[Entry]) -> list[str]:
    """Entries in a table; the settings once for each distinct configuration."""
    names: dict[str, str] = {}
    found = {_settings(entry): entry.method for entry in entries}
    for entry in entries:
        names.setdefault(_settings(entry), chr(ord("A") + len(names)) if len(names) < 26 else f"S{len(names) + 1}")
    rows = [
        [
            f"`{e.id[:12]}`", e.time, escape(str(e.method.get("name", e.operation))), names[_settings(e)],
            f"{len(e.requests):,}", escape(e.message),
        ]
        for e in entries[:MAX_ENTRIES]
    ]  # fmt: skip
    left = len(entries) - len(rows)
    shown = {row[3] for row in rows}
    return [
        "## Batches",
        *cards.table(("entry", "time", "method", "settings", "facts", "message"), rows),
        *(["", f"... and {left:,} more."] if left else []),
        "",
        *_settings_table({name: found[text] for text, name in names.items() if name in shown}),
        "",
    ]


def _settings(entry: Entry) -> str:
    """The settings as one text, the same for the same settings."""
    return json_text({key: value for key, value in entry.method.items() if key != "name"}, sort_keys=True)


def _settings_table(columns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings by name, a column for each configuration."""
    fields = sorted({key for method in columns.values() for key in method if key != "name"})
    rows = [
        [escape(field), *(escape(plain(method[field])) if field in method else "–" for method in columns.values())]
        for field in fields
    ]
    return cards.table(("setting", *columns), rows) if rows else ["No settings."]


def _number(value: Any, digits: int) -> str:
    return "–" if not isinstance(value, int | float) else f"{value:.{digits}f}"
