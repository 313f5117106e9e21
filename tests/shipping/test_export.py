"""`seqedit export`: adapters and full models that stock libraries load, with the card that belongs to them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.composition import compose
from seqedit.adapters.delta import Dense, LowRank
from seqedit.cli.main import run
from seqedit.facts.requests import Request
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE
from tests.ledger.helpers import MODEL, TIME, build_adapter


def edit(edited: EditedModel, seed: int, *, rank: int = 2, dense: bool = False, target: str = "golf") -> Adapter:
    """A random adapter of the model's layer 1; its fact is about subject ``seed``."""
    random = torch.Generator().manual_seed(seed)
    (projection,) = edited.parts.projections_of((1,))
    rows, columns = projection.matrix().shape
    delta: Dense | LowRank = LowRank(
        torch.randn(rows, rank, generator=random) / 9, torch.randn(rank, columns, generator=random) / 9
    )
    if dense:
        delta = Dense(delta.dense().float())
    request = Request(f"Venxa {seed}", "{} plays", target, target_true="rowing", relation="P641")
    return Adapter(
        {projection.name: delta}, (request,), {"name": "memit", "layers": [1], "seed": seed}, edited.base_model,
        fan_in_fan_out=projection.name.startswith("transformer.h"),
    )  # fmt: skip


def save_base(directory: Path, style: str, dtype: torch.dtype = torch.float32) -> Path:
    """A base model on disk: the reference model (Conv1D, tied embeddings) or a tiny Llama (Linear, untied)."""
    tokenizer = AutoTokenizer.from_pretrained(REFERENCE / "model")
    if style == "gpt2":
        model = AutoModelForCausalLM.from_pretrained(REFERENCE / "model")
    else:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=2048, hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    model.to(dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make(tmp_path: Path, style: str, dtype: torch.dtype = torch.float32, count: int = 3) -> tuple[Path, EditedModel]:
    """A ledger of some edits, one of them reverted and one superseded, and the model in its last state."""
    base = save_base(tmp_path / "base", style, dtype)
    edited = EditedModel(*load_model(str(base), device="cpu"), name=str(base))
    with Ledger.create(tmp_path / "ledger", edited.base_model, time=TIME) as ledger:
        for seed in range(count):
            ledger.append(edit(edited, seed), message=f"edit {seed}", time=TIME)
        ledger.revert("HEAD~1")
        ledger.append(edit(edited, 0, rank=3, target="chess"), message="again", time=TIME)
        ledger.add_scores(ledger.root(), "counterfact", {"ES": 10.0, "PS": 5.0})
        ledger.add_scores("HEAD", "counterfact", {"ES": 100.0, "PS": 75.5, "earlier": {"ES": 90.0}})
        ledger.add_scores(ledger.root(), "tasks", {"cola": {"mcc": 0.9}})
        ledger.add_scores("HEAD", "tasks", {"cola": {"mcc": 0.8125, "change": -0.0875}})
        modules = sorted({name for adapter in ledger.adapters() for name in adapter.deltas})
        edited.write(ledger.compose(edited.base_weights(modules)))
    return tmp_path / "ledger", edited


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_an_exported_state_composes_to_bit_equal_weights_and_equal_logits_in_stock_peft(
    style: str, tmp_path: Path
) -> None:
    from peft import PeftModel

    place, edited = make(tmp_path, style)
    out = tmp_path / "out"
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(out)]) == 0
    adapter = Adapter.from_pretrained(out)
    assert [(r.subject, r.target_new) for r in adapter.requests] == [("Venxa 2", "golf"), ("Venxa 0", "chess")]
    with Ledger.open(place) as ledger:
        base = edited.base_weights(sorted(adapter.deltas))
        expected, found = ledger.compose(base), compose(base, [adapter])
    assert all(torch.equal(expected[name], found[name]) for name in base)
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), str(out))
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(stock(ids).logits, edited.model(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_state_of_more_directions_than_the_matrix_has_is_dense_and_exact_to_rounding(tmp_path: Path) -> None:
    place, edited = make(tmp_path, "llama", count=16)  # 15 x 2 + 3 columns for 32 rows
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(tmp_path / "out")]) == 0
    adapter = Adapter.from_pretrained(tmp_path / "out")
    ((name, delta),) = adapter.deltas.items()
    assert isinstance(delta, Dense)
    with Ledger.open(place) as ledger:
        exact = sum(a.deltas[name].dense() for a in ledger.adapters())
    assert isinstance(exact, torch.Tensor)
    assert float((delta.dense() - exact).norm() / exact.norm()) < 1e-7
    assert edited.base_model.fingerprint == adapter.base_model.fingerprint


@pytest.mark.parametrize(
    ("style", "dtype"), [("gpt2", torch.float32), ("llama", torch.float32), ("llama", torch.bfloat16)]
)
def test_a_merged_model_loads_plainly_with_bit_equal_weights(style: str, dtype: torch.dtype, tmp_path: Path) -> None:
    place, edited = make(tmp_path, style, dtype)
    out = tmp_path / "merged"
    assert run(["export", "--ledger", str(place), "--format", "merged", "--out", str(out)]) == 0
    model = AutoModelForCausalLM.from_pretrained(out)
    expected, found = parameters(edited.model), parameters(model)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) and found[name].dtype == dtype for name in expected)
    tied = style == "gpt2"
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    unedited = parameters(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))
    assert sum(not torch.equal(unedited[name], found[name]) for name in found) == 1, "one module is edited"
    assert AutoTokenizer.from_pretrained(out)("Venxa plays") == edited.tokenizer("Venxa plays")
    header = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert header["library_name"] == "transformers"


def test_one_entry_is_exported_as_the_adapter_it_is(tmp_path: Path) -> None:
    place, _ = make(tmp_path, "llama")
    assert (
        run(["export", "HEAD", "--entry", "--ledger", str(place), "--format", "peft", "--out", str(tmp_path / "e")])
        == 0
    )
    with Ledger.open(place) as ledger:
        assert Adapter.from_pretrained(tmp_path / "e").digest == ledger.entry().adapter
    assert (
        run(["export", "HEAD~1", "--entry", "--ledger", str(place), "--format", "peft", "--out", str(tmp_path / "r")])
        == 2
    )


def test_a_truncation_prints_and_records_what_it_costs(tmp_path: Path, capsys: Any) -> None:
    place, _ = make(tmp_path, "gpt2")
    records = [
        {"subject": "Venxa 2", "prompt": "{} plays", "target_new": "golf", "target_true": "rowing", "relation": "P641",
         "paraphrase_prompts": ["One sees Venxa 2 play"], "neighborhood_prompts": ["Bado plays"]},
        {"subject": "Nobody", "prompt": "{} plays", "target_new": "golf", "target_true": "rowing", "relation": "P641"},
    ]  # fmt: skip
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    capsys.readouterr()
    arguments = ["export", "--ledger", str(place), "--format", "peft", "--rank", "1"]
    assert run([*arguments, "--records", str(tmp_path / "records.jsonl"), "--out", str(tmp_path / "a"), "--json"]) == 0
    truncation = json.loads(capsys.readouterr().out)["truncation"]
    ((name, error),) = truncation["errors"].items()
    adapter = Adapter.from_pretrained(tmp_path / "a")
    with Ledger.open(place) as ledger:
        exact = sum(a.deltas[name].dense() for a in ledger.adapters())
    assert isinstance(exact, torch.Tensor)
    assert adapter.deltas[name].rank == 1
    assert float((adapter.deltas[name].dense() - exact).norm() / exact.norm()) == pytest.approx(error, rel=1e-5)
    assert truncation["records"] == 1
    assert set(truncation["before"]) == {"ES", "PS", "NS", "EM"}
    # The same scores as the score command gives the two adapters.
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(tmp_path / "whole")]) == 0
    (tmp_path / "one.json").write_text(json.dumps(records[:1]))
    for side, folder in (("before", "whole"), ("after", "a")):
        capsys.readouterr()
        assert run(["score", "--model", str(tmp_path / "base"), "--adapter", str(tmp_path / folder),
                    "--records", str(tmp_path / "one.json"), "--json"]) == 0  # fmt: skip
        scores = json.loads(capsys.readouterr().out)
        assert {metric: scores[metric] for metric in truncation[side]} == truncation[side]
    card = (tmp_path / "a" / "README.md").read_text()
    assert "## Truncated to rank 1" in card
    assert "As recorded with the exact adapter" in card
    assert f"{error:.2e}" in card
    assert run([*arguments, "--out", str(tmp_path / "b")]) == 0
    assert "on 2 records: exact -> truncated" in capsys.readouterr().out
    assert run([*arguments, "--no-measure", "--out", str(tmp_path / "c")]) == 0
    assert "were not measured" in capsys.readouterr().out


def test_the_card_says_what_was_edited_how_and_with_which_scores(tmp_path: Path) -> None:
    place, edited = make(tmp_path, "llama")
    out = tmp_path / "out"
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(out), "--base-name", "me/base"]) == 0
    card = (out / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header == {"base_model": "me/base", "library_name": "peft", "tags": ["lora", "knowledge-editing", "seqedit"]}
    assert edited.base_model.fingerprint in card
    assert "| Venxa 0 | {} plays | chess |" in card
    assert "| Venxa 0 | {} plays | golf |" not in card, "a superseded fact is not in force"
    assert "| ES | 10.0 | 100.0 | 90.0 |" in card
    assert "| cola | mcc | 0.9000 | 0.8125 |" in card
    assert "| layers | 1 | 1 |" in card
    assert "| seed | 0 | 2 |" in card
    assert "pretrained=me/base,peft=out" in card
    assert str(tmp_path) not in card
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/base"


def test_long_lists_are_cut_and_markdown_is_escaped(tmp_path: Path) -> None:
    nasty = Request("a|b `c` <script>\nx", "{} [is](http://x) *so*", "_y_")
    many = [Request(f"subject {n}", "{} is", "x") for n in range(150)]
    source = build_adapter(0)
    with Ledger.create(tmp_path / "ledger", MODEL, time=TIME) as ledger:
        ledger.append(Adapter(source.deltas, (nasty, *many), source.method, MODEL), message="a | b", time=TIME)
    assert (
        run(["export", "--ledger", str(tmp_path / "ledger"), "--format", "peft", "--out", str(tmp_path / "out")]) == 0
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| a\\|b \\`c\\` \\<script\\> x | {} \\[is\\](http://x) \\*so\\* | \\_y\\_ |" in card
    assert "... and 51 more; all are in `seqedit.json`." in card
    assert "a \\| b" in card
    assert len(Adapter.from_pretrained(tmp_path / "out").requests) == 151


def test_a_dry_run_writes_nothing_and_wrong_input_is_refused_with_nothing_written(tmp_path: Path, capsys: Any) -> None:
    place, _ = make(tmp_path, "llama")
    out, ledger = str(tmp_path / "out"), ["--ledger", str(place)]
    for kind in ("peft", "merged", "bundle"):
        assert run(["export", *ledger, "--format", kind, "--out", out, "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["dry_run"]
    wrong = [
        (["--format", "merged", "--rank", "2"], "--rank truncates an adapter"),
        (["--format", "merged", "--entry"], "--entry exports one adapter"),
        (["--format", "peft", "--rank", "0"], "at least 1"),
        (["--format", "peft", "--records", "x.json"], "give --rank too"),
        (["HEAD~5", "--format", "peft"], "the unedited model"),
        (["HEAD~1", "--entry", "--format", "bundle"], "adds no adapter"),
        (["nothing", "--format", "peft"], "no entry or branch 'nothing'"),
        (["--format", "merged", "--model", str(REFERENCE / "model")], "belongs to base model"),
    ]
    for arguments, message in wrong:
        assert run(["export", *arguments, *ledger, "--out", out]) == 2
        assert message in capsys.readouterr().err
    assert not Path(out).exists()
    shutil.copytree(tmp_path / "base", out)
    assert run(["export", *ledger, "--format", "peft", "--out", out]) == 2
    assert "not an empty directory" in capsys.readouterr().err
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], "something was left behind"


@pytest.mark.parametrize("alone", [False, True])
def test_an_export_of_a_shipped_model_names_a_base_that_stock_peft_loads(
    alone: bool, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from peft import AutoPeftModelForCausalLM

    edited = EditedModel(*load_model("demo-gpt2", device="cpu"), name="demo-gpt2")
    with Ledger.create(tmp_path / "ledger", edited.base_model, time=TIME) as ledger:
        ledger.append(edit(edited, 0), time=TIME)
        edited.apply(list(ledger.adapters()))
    out = tmp_path / "out"
    arguments = ["export", "--ledger", str(tmp_path / "ledger"), "--format", "peft", "--out", str(out)]
    assert run([*arguments, *(["--entry"] if alone else [])]) == 0
    assert "for others give its Hub id with --base-name" in capsys.readouterr().err
    monkeypatch.chdir(out)  # the name means the same from every folder
    loaded = AutoPeftModelForCausalLM.from_pretrained(out, torch_dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, edited.model(ids).logits, atol=1e-4)
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1]).get("base_model") is None
    assert str(Path(json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"])) not in card
    assert Adapter.from_pretrained(out).base_model.fingerprint == edited.base_model.fingerprint


def test_a_base_at_a_relative_path_is_named_so_that_it_loads_from_elsewhere(tmp_path: Path, monkeypatch: Any) -> None:
    from seqedit.models.loading import loadable_name
    from seqedit.shipping.export import base_hint

    base = save_base(tmp_path / "base", "gpt2")
    monkeypatch.chdir(tmp_path)
    assert loadable_name("base") == str(base)
    assert loadable_name("gpt2-xl") == "gpt2-xl"
    assert loadable_name("./gone") == "./gone"
    adapter = build_adapter(0)
    for name, said in ((str(base), "a path of this machine"), ("./gone", "a path that is not there")):
        named = replace(adapter, base_model=replace(adapter.base_model, name=name))
        assert said in str(base_hint(named))
    assert base_hint(replace(adapter, base_model=replace(adapter.base_model, name="me/base"))) is None
