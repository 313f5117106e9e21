"""The atlas: every layer, rate and weight on one batch, kept between calls, the model as it was afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.atlas import atlas
from seqedit.demo.location import demo_file
from seqedit.library.inputs import facts_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model


def test_an_atlas_has_a_row_for_every_layer_rate_and_weight_and_is_not_made_twice(tmp_path: Path) -> None:
    edited = EditedModel(*load_model("demo-gpt2", device="cpu"), name="demo-gpt2")
    before = {p.name: p.matrix().clone() for p in edited.parts.projections}
    records = facts_of(demo_file("counterfact.json"), limit=2)
    text = demo_file("corpus.txt")
    options = {"depths": (0.0, 0.5), "rates": (0.2, 1.0), "shares": (0.1, 0.9), "steps": 3, "max_tokens": 4000}
    rows = atlas(edited, records, text, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert len(rows) == 8
    assert len({(row["layers"][-1], row["of_rule"], row["share"]) for row in rows}) == 8
    by_share = {row["share"]: row["weight"] for row in rows if row["layers"] == rows[0]["layers"]}
    assert by_share[0.1] > 10 * by_share[0.9]
    assert all(torch.equal(p.matrix(), before[p.name]) for p in edited.parts.projections)
    table = (tmp_path / "out" / "atlas.md").read_text("utf-8").splitlines()
    assert len(table) == 10
    kept = json.loads((tmp_path / "out" / "atlas.json").read_text("utf-8"))
    kept[next(iter(kept))]["ES"] = 12.0
    (tmp_path / "out" / "atlas.json").write_text(json.dumps(kept), "utf-8")
    again = atlas(edited, records, text, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert again[0]["ES"] == 12.0
