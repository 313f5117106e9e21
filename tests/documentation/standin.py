"""A directory in which the documentation's commands work: small stand-ins under the names that the pages use.

``gpt2-xl`` is a random GPT-2 of 48 layers and width 16, so that the published presets fit it; no more.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.conftest import REFERENCE

SUBJECTS = ("Danielle Darrieux", "Venxa Ulmigri", "Bado Holul", "Lyon", "Ghent", "Toko Yasuda", "Edwin of Northumbria")
SENTENCES = ("Venxa Ulmigri plays golf.", "Venxa plays Ulmigri of golf the.", "The sport of Bado Holul is rowing.")


def facts(start: int = 0) -> list[dict[str, Any]]:
    """Records in the plain layout; other numbers to start from teach the same subjects other things."""
    return [
        {
            "subject": subject, "prompt": "The mother tongue of {} is", "target_new": f" word {number + start}",
            "target_true": " French", "relation": f"r{start}", "case_id": number + start,
            "paraphrase_prompts": [f"{subject} speaks"], "neighborhood_prompts": ["The mother tongue of Montaigne is"],
            "generation_prompts": [f"{subject} was born"],
        }
        for number, subject in enumerate(SUBJECTS)
    ]  # fmt: skip


def make_model(folder: Path) -> None:
    """Save the stand-in for GPT2-XL."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=2048, n_positions=256, n_embd=16, n_layer=48, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(REFERENCE / "model").save_pretrained(folder)


def make(folder: Path) -> None:
    """Fill a directory: ``gpt2-xl``, fact files, task rows, text, keys."""
    make_model(folder / "gpt2-xl")
    shutil.copytree(REFERENCE / "model", folder / "tiny-gpt2")
    shutil.copy(REFERENCE / "second_moments.safetensors", folder / "moments.safetensors")
    (folder / "facts.json").write_text(json.dumps(facts()))
    (folder / "facts.jsonl").write_text("\n".join(map(json.dumps, facts())))
    rows = [{"sentence": s, "label": n % 2, "idx": n} for n, s in enumerate(SENTENCES)]
    (folder / "cola.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_text(folder / "text.txt")


def write_text(path: Path) -> None:
    """A text to measure second moments on."""
    words = ("golf", "music", "king", "war", "river")
    path.write_text("\n".join(f"{a} met {b} where the {c} plays." for a in SUBJECTS for b in SUBJECTS for c in words))
