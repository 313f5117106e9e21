"""What a writing command would do, said without a model and without touching the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.ledger import Ledger
from ledger.url_secrets import without_password
from seqedit.editing.rule import planned
from seqedit.facts.identity import canonical
from seqedit.facts.requests import requests_of
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.models.anatomy import Anatomy
from seqedit.models.unloaded import empty_anatomy
from seqedit.runs.config import RunConfig
from seqedit.runs.preparation import Prepared


def adapter_bytes(ledger: Ledger, config: EditConfig | None, facts: int) -> int | None:
    """About how large the weights of an adapter would be, from an earlier one on the same layers; else None."""
    if config is None:
        return None
    for entry in reversed(ledger.active()):
        if sorted(entry.method.get("layers") or []) == sorted(config.layers) and entry.adapter is not None:
            return _bytes([delta.shape for delta in ledger.adapter(entry).deltas.values()], config, facts)
    return None


def _bytes(shapes: Iterable[tuple[int, int]], config: EditConfig, facts: int) -> int:
    """Float32 factors of the method's rank, or the whole matrix where that is smaller or the rank is not known."""
    rank = facts if isinstance(config, ClosedFormConfig) else getattr(config, "rank", None)
    return sum(4 * (r * c if rank is None else min(rank * (r + c), r * c)) for r, c in shapes)


def bytes_on(model: str, config: EditConfig, facts: int) -> int:
    """About how large the weights of an adapter would be; a trained editor's may be smaller.

    Shapes come from the model's configuration; no weights are loaded.

    Raises:
        InputError: the model has no such layers.
        EnvironmentFailure: its configuration cannot be read.
    """
    return _bytes(_weights(empty_anatomy(model), config), config, facts)


def _weights(parts: Anatomy, config: EditConfig) -> list[tuple[int, int]]:
    shapes = [projection.weight.shape for projection in parts.projections_of(config.layers)]
    return [(int(shape[0]), int(shape[1])) for shape in shapes]


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """A plan as lines of text."""
    size = plan.get("adapter_bytes")
    where = f"on branch '{plan['branch']}'" if plan.get("branch") else f"into {plan['out']}"
    lines = [
        f"would {plan['operation']} {where}: {len(plan['facts'])} facts by {plan['method']}"
        + (f", layers {','.join(map(str, plan['layers']))}" if plan.get("layers") else "")
        + (f", about {_size(size)}" if size else "")
    ]
    if plan.get("entry"):
        lines.append(
            f"in the place of {plan['entry'][:12]} ({plan['by']}); {plan['follow']} later entries stay as they are"
        )
    if plan.get("entries"):
        lines.append("of entries " + ", ".join(e[:12] for e in plan["entries"]))
    if plan.get("left_out"):
        lines.append(f"{plan['left_out']} superseded facts would be left out")
    for fact in plan["facts"]:
        lines.append(f"  {fact['prompt'].replace('{}', fact['subject'])} -> {fact['target_new']}")
    lines += [f"  {text}" for text in plan.get("overlaps", [])]
    return lines + list(plan.get("notes", []))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def planned_run(config: RunConfig, ready: Prepared) -> dict[str, Any]:
    """What a run would do, batch by batch, with the facts that later batches supersede.

    Args:
        config: The run.
        ready: It, with all that it would be refused for checked (`seqedit.runs.preparation.prepare`).
    """
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in ready.earlier:
        for request in entry.requests:
            seen[request.fact] = f"entry {entry.id[:12]}", request.target_new
    steps = []
    for number, batch in enumerate(ready.batches, 1):
        superseded = []
        for request in requests_of(batch.records):
            if request.fact in seen:
                place, target = seen[request.fact]
                kind = "repeats" if canonical(target) == canonical(request.target_new) else "supersedes"
                superseded.append(f"{kind} {place}: {request.text} -> {request.target_new} (was {target})")
            seen[request.fact] = f"step {number}", request.target_new
        told = {"message": batch.title, "file": batch.file["name"]} if config.files is not None and batch.file else {}
        steps.append({"step": number, "facts": len(batch.records), **told, "overlaps": superseded})
    largest = max((len(batch.records) for batch in ready.batches), default=0)
    parts, retry = None if ready.edited is None else ready.edited.parts, config.on_gate.settings
    ahead = planned(config.settings, parts)
    again = () if retry is None else planned(retry, parts).notes
    size = 0 if parts is None else _bytes(_weights(parts, ahead.config), ahead.config, largest)
    start = ready.start
    return {
        "operation": "run", "model": config.model, "method": config.method, "settings": ahead.settings(),
        "by_rule": list(ahead.waiting), "notes": [*ahead.notes, *(f"a retry: {note}" for note in again)],
        "layers": list(ahead.config.layers), "ledger": without_password(config.ledger), "branch": start.branch,
        "onto": start.entry, "new_branch": start.new, "resumed": start.resumed, "start": str(start),
        "files": ready.files, "steps": steps, "facts": len(ready.records), "adapter_bytes": size,
        "tasks": sorted(config.tasks), "order": config.order,
        **({"skipped": [left.to_dict() for left in ready.skipped]} if ready.skipped else {}),
    }  # fmt: skip


def run_lines(plan: Mapping[str, Any]) -> list[str]:
    """A planned run as lines of text."""
    steps = plan["steps"]
    if not steps:
        return [*plan["files"], "nothing new"]
    lines = [
        *plan["files"],
        f"would run {len(steps)} steps, {plan['facts']} facts by {plan['method']} on {plan['model']}, layers "
        f"{','.join(map(str, plan['layers']))}",
        f"ledger {plan['ledger']}, {plan['start']}; each adapter about {_size(plan['adapter_bytes'])}",
        f"scored after every step: CounterFact{''.join(', ' + task for task in plan['tasks'])}",
        *plan["notes"],
    ]
    if plan["order"] == "clustered":
        lines.append("order clustered: the model's keys decide which facts share a step; below, the file's order")
    lines += [f"step {step['step']}: {step['facts']} facts of {step['file']}" for step in steps if "file" in step]
    return lines + [f"step {step['step']} {text}" for step in steps for text in step["overlaps"]]
