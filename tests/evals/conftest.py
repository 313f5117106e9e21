"""Records of the reference cases and small helpers for the measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.facts.requests import Neighbor, Record, Request

REFERENCE = Path(__file__).parents[1] / "data" / "reference"
CASES = ("single_layer_batch1", "multi_layer_batch8")


def reference_records(case: str) -> list[Record]:
    """Records of a reference case (original CounterFact layout)."""
    records = []
    for row in json.loads((REFERENCE / case / "case.json").read_text())["records"]:
        rewrite = row["requested_rewrite"]
        records.append(
            Record(
                Request(
                    rewrite["subject"],
                    rewrite["prompt"],
                    rewrite["target_new"]["str"],
                    rewrite["target_true"]["str"],
                    rewrite["relation_id"],
                    row["case_id"],
                ),
                tuple(row["paraphrase_prompts"]),
                tuple(Neighbor(prompt) for prompt in row["neighborhood_prompts"]),
                tuple(row["generation_prompts"]),
            )
        )
    return records


@pytest.fixture(scope="session")
def records() -> list[Record]:
    """The eight records of the larger reference case."""
    return reference_records("multi_layer_batch8")


@pytest.fixture(scope="session")
def model(reference_model: tuple[Any, Any]) -> Any:
    """The reference model."""
    return reference_model[0]


@pytest.fixture(scope="session")
def tokenizer(reference_model: tuple[Any, Any]) -> Any:
    """Its tokenizer."""
    return reference_model[1]
