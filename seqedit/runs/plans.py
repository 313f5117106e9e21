"""What a writing command would do, said without a model and without touching the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.ledger import Ledger
from ledger.url_secrets import without_password
from seqedit.errors import EnvironmentFailure
from seqedit.facts.identity import canonical
from seqedit.facts.requests import requests_of
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.models.loading import resolve_model
from seqedit.runs.config import RunConfig
from seqedit.runs.facts import load_facts
from seqedit.runs.runner import batches_of


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
    weights = [projection.weight for projection in empty_anatomy(model).projections_of(config.layers)]
    return _bytes([(int(w.shape[0]), int(w.shape[1])) for w in weights], config, facts)


def empty_anatomy(model: str) -> Anatomy:
    """Anatomy of a model without its weights: modules and shapes only."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    source = resolve_model(model)
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise EnvironmentFailure(f"the configuration of model '{model}' cannot be read: {error}") from error
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    return anatomy(empty)


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
    return lines


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def planned_run(config: RunConfig) -> dict[str, Any]:
    """What a run would do, batch by batch, with the facts that later batches supersede.

    Raises:
        InputError: wrong configuration or facts, as the run itself would say.
    """
    facts = load_facts(config)
    batches = batches_of(facts, config)
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    steps = []
    for number, batch in enumerate(batches, 1):
        superseded = []
        for request in requests_of(batch):
            if request.fact in seen:
                step, target = seen[request.fact]
                kind = "repeats" if canonical(target) == canonical(request.target_new) else "supersedes"
                superseded.append(f"{kind} step {step}: {request.text} -> {request.target_new} (was {target})")
            seen[request.fact] = number, request.target_new
        steps.append({"step": number, "facts": len(batch), "overlaps": superseded})
    size = bytes_on(config.model, config.settings, config.batch_size)
    return {
        "operation": "run", "model": config.model, "method": config.method, "settings": config.settings.to_dict(),
        "layers": list(config.settings.layers), "ledger": without_password(config.ledger), "branch": config.branch,
        "steps": steps, "facts": sum(len(batch) for batch in batches), "adapter_bytes": size,
        "tasks": sorted(config.tasks), "order": config.order,
    }  # fmt: skip


def run_lines(plan: Mapping[str, Any]) -> list[str]:
    """A planned run as lines of text."""
    steps = plan["steps"]
    lines = [
        f"would run {len(steps)} steps, {plan['facts']} facts by {plan['method']} on {plan['model']}, layers "
        f"{','.join(map(str, plan['layers']))}",
        f"ledger {plan['ledger']}, branch {plan['branch']}; each adapter about {_size(plan['adapter_bytes'])}",
        f"scored after every step: CounterFact{''.join(', ' + task for task in plan['tasks'])}",
    ]
    if plan["order"] == "clustered":
        lines.append("order clustered: the model's keys decide which facts share a step; below, the file's order")
    return lines + [f"step {step['step']} {text}" for step in steps for text in step["overlaps"]]
