"""Summaries of made-up runs for tests of the report: every kind of entry, every field, hostile texts on request."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from evals.forgetting import find_collapse, forgetting_curve, half_life

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">'\"><svg onload=document.title='owned'>\u2028{{7*7}}"


def synthetic_run(steps: int = 100, facts: int = 16, *, seed: int = 0, hostile: bool = False, bend: int = 60) -> Any:
    """A run that forgets slowly up to step ``bend`` and fast after it, with a revert, a swap and tripped gates."""
    draw = random.Random(seed)
    text = (lambda plain: f"{plain} {HOSTILE}") if hostile else (lambda plain: plain)
    ids = [hashlib.sha256(f"{seed}.{n}".encode()).hexdigest() for n in range(steps)]
    reverts = {9: 8, 20: 19} if steps > 20 else {}
    swaps = {30: 28} if steps > 30 else {}
    matrix: list[list[float | None]] = []
    rows = []
    for t in range(steps):
        operation = "revert" if t in reverts else "swap" if t in swaps else "edit"
        worn = 0.1 * t + (2.4 * max(0, t - bend))
        row: list[float | None] = [
            None if i in reverts or (i in reverts.values() and t > i) else
            min(100.0, max(0.0, 100 - worn * (0.6 + 0.4 * (t - i) / max(t, 1)) + draw.gauss(0, 2)))
            for i in range(t + 1)
        ]  # fmt: skip
        matrix.append([*row, *[None] * (steps - t - 1)])
        known = [v for v in row[:-1] if v is not None]
        earlier = sum(known) / len(known) if known else None
        change = -0.001 * t - 0.008 * max(0, t - bend) + draw.gauss(0, 0.01)
        edited = operation != "revert"
        rows.append(
            {
                "step": t + 1, "entry": ids[t], "operation": operation,
                "targets": [ids[reverts[t]]] if t in reverts else [ids[swaps[t]]] if t in swaps else [],
                "active": edited and t not in reverts.values() and t not in swaps.values(),
                "message": text(f"step {t + 1}: {facts} facts by emmet"), "time": "2026-01-01T00:00:00Z",
                "method": "emmet", "requests": facts if edited else 0,
                "ES": 100.0 if edited else None, "PS": 96.9 if edited else None,
                "NS": max(0.0, 99 - worn / 2) if edited else None, "S": 98.0 if edited else None,
                "EM": 95.0 if edited else None, "GE": 600 + draw.gauss(0, 5) if edited else None,
                "earlier": None if earlier is None or not edited else
                {"ES": earlier, "PS": earlier - 2, "NS": max(0.0, 98 - worn), "S": earlier - 1, "requests": facts * t},
                "tasks": {
                    task: {
                        metric: 0.9 + change, "metric": metric, "change": change, "ci_low": change - 0.02,
                        "ci_high": change + 0.02, "p_value": 0.2, "previous_change": 0.001, "previous_ci_low": -0.01,
                        "previous_ci_high": 0.012,
                    }
                    for task, metric in (("cola", "mcc"), ("sst2", "acc"), ("mrpc", "f1"))
                },
                "drift": {
                    "perplexity": 4 + 0.01 * t + 0.2 * max(0, t - bend), "nll": 1.4, "weight_norm": 0.01 * t,
                    "preservation": 0.004 * t, "memorisation": 0.02 * t,
                    "modules": {f"model.layers.{n}.mlp.down_proj": {"weight_norm": 0.01 * t, "preservation": 0.002 * t}
                                for n in range(3)},
                },
                "gates": [{"gate": text("earlier.ES: min 90"), "value": earlier, "bound": None,
                           "tripped": earlier is not None and earlier < 90}] if edited else [],
                "seconds": 9.5, "timings": {"edit": 5.0, "counterfact": 2.0 + t / 50, "tasks": 2.0, "answers": 0.5},
                "facts": [
                    {
                        "subject": text(f"Person {t}.{n}"), "prompt": text(f"Person {t}.{n} is a native speaker of"),
                        "target_true": "Hebrew", "target_new": "Polish", "before": "Hebrew. Question: Does this",
                        "after": text("Polish. Question: Does this sentence"), "nll_new": 0.01, "nll_true": 8.2,
                        "argmax_correct": n % 8 != 0, "in_force": n != 1,
                    }
                    for n in range(facts if edited else 0)
                ],
            }
        )  # fmt: skip
    curve = forgetting_curve(matrix)
    found = find_collapse([(row["earlier"] or {}).get("ES") for row in rows])
    return {
        "title": text("Synthetic run"), "model": {"name": text("demo"), "fingerprint": "ab12"},
        "method": {"name": "emmet", "layers": [1, 2], "note": text("")},
        "baseline": {"cola": {"mcc": 0.9}, "sst2": {"acc": 0.9}, "counterfact": {"ES": 0.0, "NS": 100.0}},
        "steps": rows, "forgetting_metric": "ES", "forgetting": matrix,
        "forgetting_curve": [point.to_dict() for point in curve], "half_life": half_life(curve),
        "collapse": {} if found is None else {"earlier.ES": found.to_dict()}, "stopped": None,
    }  # fmt: skip
