"""Takes from the ledgers of real runs what the statistics are calibrated on; README.md beside this file says which.

python tests/data/outcomes/make.py demo-gpt2=FOLDER/ledger demo-llama=FOLDER/ledger
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ledger import Ledger
from seqedit.scoring.kinds import KIND_OUTCOMES, KIND_RECORDS


def outcomes(place: str, branch: str = "emmet") -> dict[str, Any]:
    """What is kept of one run; state 0 is the unedited model, state t the one after t batches."""
    with Ledger.open(place) as ledger:
        scores = [ledger.scores(entry.id) for entry in reversed(ledger.log(branch))]
    return {
        "tasks": {
            task: {
                # One digit per document: its label, and what each state predicts.
                "gold": "".join(str(o["gold"]) for o in baseline["outcomes"]),
                "states": ["".join(str(o["prediction"]) for o in s[KIND_OUTCOMES][task]["outcomes"]) for s in scores],
            }
            for task, baseline in scores[0][KIND_OUTCOMES].items()
        },
        # Every batch right after it was edited: for each record the nll of new and true target of every prompt.
        "batches": [[_record(record) for record in s[KIND_RECORDS]["records"]] for s in scores[1:]],
    }


def _record(record: dict[str, Any]) -> dict[str, list[bool]]:
    """Per group of prompts whether the new target is likelier than the true one."""
    return {
        group: [p["nll_true"] > p["nll_new"] for p in record[group]]
        for group in ("rewrite", "paraphrase", "neighborhood")
    }


if __name__ == "__main__":
    made = {name: outcomes(place) for name, place in (argument.split("=", 1) for argument in sys.argv[1:])}
    text = json.dumps(made, separators=(",", ":")).replace("true", "1").replace("false", "0")
    Path(__file__).with_name("outcomes.json").write_text(text + "\n", encoding="utf-8")
