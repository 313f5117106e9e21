"""What weights give away: the shares are those of the formula, and a closed form's subjects stand out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import Dense, LowRank
from seqedit.editing.editor import Editor
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.leakage.audit import Separation, audit_update, separation
from seqedit.leakage.shares import row_factor, shares
from seqedit.leakage.subjects import as_bare, load_candidates
from seqedit.leakage.update import Update, read_update
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments
from tests.planning.test_plan import CONTEXTS, NAMES, edited, moments  # noqa: F401  (fixtures)

OTHERS = tuple(f"{first} {last}" for first in ("Ana", "Bo", "Cleo", "Dan", "Eve") for last in ("Umbra", "Talo", "Rix"))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def made(edited: EditedModel, moments: SecondMoments) -> tuple[Editor, Adapter]:  # noqa: F811
    editor = Editor(edited, moments, context_templates=CONTEXTS)
    config = method_config("memit", layers="1,2", assignments=["steps=3", "second_moment_weight=20"])
    facts = [Request(name, "{} professionally plays the sport of", "golf") for name in NAMES]
    return editor, editor.compute(facts, "memit", config)


@pytest.mark.parametrize("weight", [1.0, 500.0])
def test_edited_keys_lie_wholly_in_a_closed_forms_update_and_others_as_random_ones_do(weight: float) -> None:
    d, n = 40, 5
    factor = random(d, d, seed=1)
    C0, K, R = factor @ factor.T / d + torch.eye(d), random(d, n, seed=2), random(12, n, seed=3)
    delta = R @ K.T @ torch.linalg.inv(weight * C0 + K @ K.T)
    rows = row_factor(Dense(delta.float()))
    solve = torch.linalg.inv(C0)
    assert len(rows) == n
    assert shares(K.T, rows, C0, lambda k: solve @ k).numpy() == pytest.approx(np.ones(n), abs=1e-4)
    whitened = torch.linalg.cholesky(C0) @ random(d, 4000, seed=4)
    assert float(shares(whitened.T, rows, C0, lambda k: solve @ k).mean()) == pytest.approx(n / d, abs=0.01)


def test_shares_are_the_projection_in_the_metric_of_the_second_moment() -> None:
    d, A, K = 9, random(3, 9, seed=1), random(4, 9, seed=2)
    factor = random(d, 30, seed=3)
    C0 = factor @ factor.T / 30
    root = torch.linalg.cholesky(C0)
    columns, keys = torch.linalg.solve_triangular(root, torch.cat([C0 @ A.T, K.T], 1), upper=False).split([3, 4], 1)
    basis = torch.linalg.qr(columns).Q
    expected = ((basis.T @ keys) ** 2).sum(0) / (keys**2).sum(0)
    inverse = torch.linalg.inv(C0)
    torch.testing.assert_close(shares(K, A, C0, lambda k: inverse @ k), expected)
    plain = torch.linalg.qr(A.T).Q
    torch.testing.assert_close(shares(K, A), ((plain.T @ K.T) ** 2).sum(0) / (K**2).sum(1))


def test_rows_of_a_low_rank_delta_are_those_of_its_product_however_its_factors_are_filled_up() -> None:
    B, A = random(7, 3, seed=1).float(), random(3, 11, seed=2).float()
    padded = LowRank(torch.nn.functional.pad(B, (0, 2)), torch.nn.functional.pad(A, (0, 0, 0, 2)))
    for delta in (LowRank(B, A), padded, Dense(B @ A)):
        rows = row_factor(delta)
        assert len(rows) == 3
        torch.testing.assert_close((rows.T @ rows).float(), torch.linalg.pinv(A) @ A, atol=1e-4, rtol=0)


def test_a_separation_counts_equal_scores_half_and_its_recall_is_not_flattered_by_them() -> None:
    truth = np.array([True, False, True, False])
    assert separation(np.ones(4), truth).auc == 0.5
    assert separation(np.ones(4), truth).recall == 0.0
    found = separation(np.array([0.9, 0.1, 0.5, 0.7]), truth)
    assert (found.auc, found.recall, found.chance) == (0.75, 0.5, 0.5)
    assert found.interval[0] < 0.5 < found.interval[1]


@pytest.mark.parametrize("own", [True, False])
def test_the_subjects_of_an_edit_are_told_from_others_by_its_weights(made: tuple[Editor, Adapter], own: bool) -> None:
    editor, adapter = made
    others = [Request(name, "{} professionally plays the sport of", "golf") for name in OTHERS]
    found = audit_update(editor, Update(adapter.deltas, adapter.requests, adapter), others, own_prompts=own)
    assert found.separation is not None
    assert found.separation.auc > 0.9
    assert {one.subject for one in found.suspects} == {*NAMES, *OTHERS}
    assert [layer.rank for layer in found.layers] == [6, 6]
    assert found.prompts == ("own" if own else "bare")
    assert any("a guess finds 29 % of the 6" in line for line in found.lines())
    if own:  # at the prompts that the keys were measured at nothing is hidden
        assert found.separation == Separation(1.0, 1.0, found.separation.interval, 6 / 21)
        assert found.suspects[0].share > 0.99


def test_weights_without_a_record_give_the_same_order_of_suspects(made: tuple[Editor, Adapter], tmp_path: Path) -> None:
    editor, adapter = made
    adapter.save_pretrained(tmp_path / "adapter")
    known = read_update(tmp_path / "adapter")
    for name in ("seqedit.json", "seqedit_values.safetensors", "README.md"):
        (tmp_path / "adapter" / name).unlink()
    bare = read_update(tmp_path / "adapter")
    assert bare.requests == ()
    assert bare.adapter is None
    names = as_bare([*NAMES, *OTHERS])
    first, second = (audit_update(editor, update, names) for update in (known, bare))
    assert second.separation is None
    assert [one.subject for one in first.suspects] == [one.subject for one in second.suspects]
    assert {one.edited for one in second.suspects} == {None}


def test_an_audit_with_nobody_to_tell_the_subjects_from_is_refused(made: tuple[Editor, Adapter]) -> None:
    editor, adapter = made
    with pytest.raises(InputError, match="every candidate is a subject"):
        audit_update(editor, Update(adapter.deltas, adapter.requests, adapter), as_bare(NAMES))


def test_an_update_of_another_part_of_the_model_is_refused(made: tuple[Editor, Adapter]) -> None:
    editor, _ = made
    delta = LowRank(torch.ones(32, 1), torch.ones(1, 32))
    with pytest.raises(InputError, match=r"no FFN output projection 'model\.layers\.0\.self_attn\.o_proj'"):
        audit_update(editor, Update({"model.layers.0.self_attn.o_proj": delta}), as_bare(OTHERS))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"", "names no subject"),
        ("names.txt", b"\n  \n", "names no subject"),
        ("names.txt", b"\xff\xfe\x00", "NUL bytes"),
        ("names.txt", b"Ada\n\xff\n", "names.txt: not UTF-8 at byte 4"),
        ("names.txt", b"Ada\n" + b"[" * 5000, "names.txt, line 2: 5,000 characters are no name"),
    ],
)
def test_a_list_of_names_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_candidates(tmp_path / name)
    with pytest.raises(InputError, match=r"absent.txt: cannot be read .No such file"):
        load_candidates(tmp_path / "absent.txt")


def test_candidates_are_taken_once_from_names_and_from_facts(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffAda\nBob\n\n Ada \n", "utf-8")
    assert [(one.subject, one.prompt) for one in load_candidates(tmp_path / "names.txt")] == [
        ("Ada", "{}"),
        ("Bob", "{}"),
    ]
    facts = [{"subject": "Ada", "prompt": "{} lives in", "target_new": "Rome"}] * 2
    (tmp_path / "facts.json").write_text(json.dumps(facts[:1]))
    assert [one.prompt for one in load_candidates(tmp_path / "facts.json")] == ["{} lives in"]


@pytest.mark.parametrize(
    ("config", "message"),
    [({"peft_type": "IA3"}, "only LORA can be audited"), ({"peft_type": "LORA"}, "adapter_model.safetensors")],
)
def test_a_folder_that_holds_no_lora_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        read_update(tmp_path)
