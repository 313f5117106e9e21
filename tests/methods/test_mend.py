"""MEND: its gradient terms are the gradient, its training learns and resumes, its edits are adapters like any other."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file

from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import Dense, LowRank
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.editing.settings import method_config
from seqedit.errors import InputError, NumericsError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, requests_of
from seqedit.forward.hooks import inference_state
from seqedit.methods import get_method
from seqedit.methods.mend import Hypernetwork, MendTraining, Trained, load_hypernetwork, train_hypernetwork
from seqedit.methods.mend.checkpoint import CHECKPOINT
from seqedit.methods.mend.examples import group, step_cases, tokenize_records
from seqedit.methods.mend.files import CONFIG, WEIGHTS, save_hypernetwork, unedited_part
from seqedit.methods.mend.gradients import token_terms
from seqedit.methods.mend.hypernetwork import GradientTransform
from seqedit.methods.mend.objective import edit_losses
from seqedit.methods.training import target_losses, target_prompts
from seqedit.models.anatomy import anatomy, features
from seqedit.models.fingerprint import base_model_of, fingerprint
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE

LAYERS = (2, 3)
CONTEXTS = [["{}"], ["It rained. {}"]]
RATE = 0.03
# Without a line search and with a high rate, because seconds must do.
QUICK = MendTraining(
    layers=LAYERS, steps=40, learning_rate=5e-3, batch_size=4, rank=8, edit_rate=RATE, validation_share=0.25,
    validate_every=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    file = tmp_path_factory.mktemp("facts") / "records.json"
    file.write_text(json.dumps(case["records"]))
    return load_records(file)


@pytest.fixture(scope="module")
def trained(reference_model: tuple[Any, Any], records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a hypernetwork trained on the first six records."""
    out = tmp_path_factory.mktemp("mend") / "net"
    model, tokenizer = reference_model
    before = fingerprint(model)
    train_hypernetwork(model, tokenizer, records, QUICK, base_model=base_model_of(model), out=out)
    assert fingerprint(model) == before
    assert sorted(p.name for p in out.iterdir()) == [WEIGHTS, CONFIG]
    return out


@pytest.fixture(params=["gpt2", "llama"])
def models(request: pytest.FixtureRequest) -> Any:
    """Conv1D without, and Linear with a BOS."""
    return request.getfixturevalue("reference_model" if request.param == "gpt2" else "llama")


def untrained(model: Any, folder: Path, layers: Sequence[int] = LAYERS, rate: float = RATE) -> Path:
    """The directory of a hypernetwork as it is before any training."""
    parts = anatomy(model)
    network = Hypernetwork({i: features(parts.projections[i].module) for i in layers}, 4, rate=rate)
    names = {layer: parts.projections[layer].name for layer in layers}
    save_hypernetwork(folder, Trained(network, base_model_of(model), unedited_part(parts), names, {}, {}))
    return folder


def compute(models: tuple[Any, Any], records: Sequence[Record], place: Path, **more: Any) -> Adapter:
    config = get_method("mend").config.from_dict({"hypernetwork": str(place), **more})
    return compute_adapter(
        *models, requests_of(records), "mend", config, base_model=base_model_of(models[0]), context_templates=CONTEXTS
    )


def weight_gradients(model: Any, tokenizer: Any, records: Sequence[Record]) -> dict[str, torch.Tensor]:
    """Autograd's own gradient of the summed loss, (d_out, d_in) float64."""
    prompts = target_prompts(tokenizer, requests_of(records))
    projections = anatomy(model).projections_of(LAYERS)
    gradients = torch.autograd.grad(target_losses(model, prompts).sum(), [p.weight for p in projections])
    return {p.name: (g.T if p.transposed else g).double() for p, g in zip(projections, gradients, strict=True)}


def test_an_untrained_network_gives_plain_gradient_descent(models: Any, records: list[Record], tmp_path: Path) -> None:
    model, tokenizer = models
    before = fingerprint(model)
    adapter = compute(models, records[:4], untrained(model, tmp_path / "net"), scale=2.0)
    assert fingerprint(model) == before
    wanted = weight_gradients(model, tokenizer, records[:4])
    assert adapter.deltas.keys() == wanted.keys() == adapter.keys.keys()
    for name, delta in adapter.deltas.items():
        error = (delta.dense() + 2 * RATE * wanted[name]).norm() / (2 * RATE * wanted[name]).norm()
        assert float(error) < 1e-5


def test_no_weight_gets_a_gradient(models: Any, records: list[Record]) -> None:
    model, tokenizer = models
    token_terms(model, anatomy(model), target_prompts(tokenizer, requests_of(records)), LAYERS)
    assert all(parameter.grad is None for parameter in model.parameters())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edit_of_a_batch_is_the_sum_of_its_requests_edits(
    data: st.DataObject, models: Any, records: list[Record]
) -> None:
    model, tokenizer = copy.deepcopy(models[0]).double(), models[1]
    rows = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=5, unique=True))
    budget = data.draw(st.sampled_from([1, 20, 60, 8192]))
    parts = anatomy(model)
    network = trained_like(model)
    prompts = target_prompts(tokenizer, requests_of([records[i] for i in rows]))

    def deltas(some: Any, max_tokens: int) -> dict[int, torch.Tensor]:
        terms, losses = token_terms(model, parts, some, LAYERS, max_tokens=max_tokens)
        assert losses.shape == (len(some),)
        factors = {layer: network.factors(layer, terms[layer].u, terms[layer].delta) for layer in LAYERS}
        return {layer: B @ A for layer, (B, A) in factors.items()}

    together = deltas(prompts, budget)
    alone = [deltas([prompt], 8192) for prompt in prompts]
    for layer, delta in together.items():
        total = torch.stack([single[layer] for single in alone]).sum(0)
        assert float((delta - total).norm() / total.norm()) < 1e-10


def trained_like(model: Any) -> Hypernetwork:
    """A float64 network far from the identity, with statistics."""
    network = Hypernetwork({i: features(anatomy(model).projections[i].module) for i in LAYERS}, 4).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        for layer, (d_in, d_out) in network.shapes.items():
            u, delta = (torch.randn(20, d, generator=generator, dtype=torch.float64) for d in (d_in, d_out))
            network.observe(layer, u, 0.01 * delta)
    return network.requires_grad_(False)


def test_the_model_of_the_training_loss_is_the_model_with_the_edit_written_to_it(
    models: Any, records: list[Record]
) -> None:
    model, tokenizer = copy.deepcopy(models[0]).double(), models[1]
    parts, network = anatomy(model), trained_like(model)
    cases = tokenize_records(tokenizer, records[:4])
    with inference_state(model), torch.no_grad():
        together = edit_losses(model, parts, network, group(cases, 2))
        edit = kl = 0.0
        for some in group(cases, 2):
            terms, _ = token_terms(model, parts, [case.prompt for case in some], LAYERS)
            base = [next_token(model, ids) for case in some for ids in case.neighbors]
            saved = {layer: parts.projections[layer].matrix().clone() for layer in LAYERS}
            for layer in LAYERS:
                B, A = network.factors(layer, terms[layer].u, terms[layer].delta)
                parts.projections[layer].write(saved[layer] + B @ A)
            edit += sum(float(target_losses(model, case.answers).mean()) for case in some)
            after = [next_token(model, ids) for case in some for ids in case.neighbors]
            # Every case has the same number of neighbours.
            kl += 2 * sum(float((p.exp() * (p - q)).sum()) for p, q in zip(base, after, strict=True)) / len(base)
            for layer in LAYERS:
                parts.projections[layer].write(saved[layer])
    assert together.edits == 4
    assert float(together.edit) == pytest.approx(edit, rel=1e-8)
    assert float(together.locality) == pytest.approx(kl, rel=1e-6)


def next_token(model: Any, ids: Sequence[int]) -> torch.Tensor:
    return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], dim=-1)


def test_running_statistics_do_not_depend_on_the_batching() -> None:
    generator = torch.Generator().manual_seed(0)
    u, delta = torch.randn(40, 6, generator=generator), 1e-3 * torch.randn(40, 3, generator=generator)
    delta[:, 1] = 0  # a feature that never moves does not blow up
    moments = []
    for size in (40, 7, 1):
        transform = GradientTransform(6, 3, 1, 2, generator)
        for start in range(0, 40, size):
            transform.observe(u[start : start + size], delta[start : start + size], 0)
        moments.append(torch.stack(transform.moments(0)))
    torch.testing.assert_close(moments[0], moments[1])
    torch.testing.assert_close(moments[0], moments[2])
    torch.testing.assert_close(moments[0][0, :6].float(), u.mean(0))
    torch.testing.assert_close(moments[0][1, :6].float(), u.std(0))
    assert float(moments[0][1, 7]) > 1e-6


def test_training_lowers_the_held_out_loss_and_edits_held_out_records(
    reference_model: tuple[Any, Any], records: list[Record], trained: Path
) -> None:
    model, tokenizer = reference_model
    found = load_hypernetwork(trained)
    figures = found.validation
    assert figures["records"] == 2
    assert figures["trained"]["loss"] < figures["untrained"]["loss"] < figures["unedited"]["loss"]
    assert figures["unedited"]["locality_kl"] == pytest.approx(0, abs=1e-9)
    held_out = records[-2:]
    before = fingerprint(model)
    prompts = target_prompts(tokenizer, requests_of(held_out))
    unedited = target_losses(model, prompts).detach()
    adapter = compute(reference_model, held_out, trained)
    assert fingerprint(model) == before
    edited = copy.deepcopy(model)
    apply_adapter(edited, adapter)
    after = target_losses(edited, prompts).detach()
    assert bool((after < 0.5 * unedited).all())
    assert adapter.provenance["losses"] == pytest.approx(after.tolist(), abs=1e-3)
    assert adapter.provenance["hypernetwork"]["digest"] == found.digest
    assert adapter.provenance["second_moments"] is None


def test_stock_peft_loads_the_edit_low_rank_or_dense(
    reference_model: tuple[Any, Any], records: list[Record], trained: Path, tmp_path: Path
) -> None:
    few = compute(reference_model, records[:2], trained)
    assert all(isinstance(delta, LowRank) for delta in few.deltas.values())
    many = compute(reference_model, records + more_records(records), trained)
    assert all(isinstance(delta, Dense) for delta in many.deltas.values())
    ids = torch.tensor([reference_model[1](records[0].request.text)["input_ids"]])
    for name, adapter in (("few", few), ("many", many)):
        adapter.save_pretrained(tmp_path / name)
        ours, theirs = copy.deepcopy(reference_model[0]), copy.deepcopy(reference_model[0])
        apply_adapter(ours, adapter)
        stock = PeftModel.from_pretrained(theirs, str(tmp_path / name))
        with torch.no_grad():
            torch.testing.assert_close(stock(input_ids=ids).logits, ours(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def more_records(records: Sequence[Record]) -> list[Record]:
    """The same facts of subjects with longer names: more tokens than the projections' rank."""
    from dataclasses import replace

    return [
        replace(r, request=replace(r.request, subject=f"{r.request.subject} the Younger of the Northern Hills"))
        for r in records
    ]


class Stop(Exception):
    """Stands for an interruption."""


def test_a_resumed_training_gives_what_an_uninterrupted_one_does(
    reference_model: tuple[Any, Any], records: list[Record], trained: Path, tmp_path: Path
) -> None:
    model, tokenizer = reference_model
    base, out = base_model_of(model), tmp_path / "net"

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 20:  # the checkpoint of this validation is not written any more
            raise Stop

    with pytest.raises(Stop):
        train_hypernetwork(model, tokenizer, records, QUICK, base_model=base, out=out, report=stop)
    assert [p.name for p in out.iterdir()] == [CHECKPOINT]
    with pytest.raises(InputError, match=r"mend_config.json is missing; its training is not finished"):
        load_hypernetwork(out)
    other = MendTraining.from_dict({**QUICK.to_dict(), "rank": 16})
    with pytest.raises(InputError, match=r"another 'rank' \(8, now 16\)"):
        train_hypernetwork(model, tokenizer, records, other, base_model=base, out=out, resume=True)
    seen: list[float] = []
    train_hypernetwork(
        model, tokenizer, records, QUICK, base_model=base, out=out, resume=True, report=lambda r: seen.append(r["step"])
    )
    assert seen == [20, 30, 40]
    for name in (WEIGHTS, CONFIG):
        assert (out / name).read_bytes() == (trained / name).read_bytes()
    with pytest.raises(InputError, match="no unfinished training"):
        train_hypernetwork(model, tokenizer, records, QUICK, base_model=base, out=out, resume=True)


def test_training_stops_early_and_keeps_the_best_parameters(
    reference_model: tuple[Any, Any], records: list[Record], tmp_path: Path
) -> None:
    model, tokenizer = reference_model
    # A rate at which every step makes it worse.
    config = MendTraining.from_dict({**QUICK.to_dict(), "learning_rate": 1.0, "validate_every": 1, "patience": 2})
    found = train_hypernetwork(model, tokenizer, records, config, base_model=base_model_of(model), out=tmp_path / "net")
    assert found.training["steps_taken"] < 40
    assert found.validation["trained"] == found.validation["untrained"]


def test_a_diverging_training_is_an_error_that_says_what_to_lower(
    reference_model: tuple[Any, Any], records: list[Record], tmp_path: Path
) -> None:
    model, tokenizer = reference_model
    config = MendTraining.from_dict({**QUICK.to_dict(), "edit_rate": 1e30})
    with pytest.raises(NumericsError, match="edit_rate"):
        train_hypernetwork(model, tokenizer, records, config, base_model=base_model_of(model), out=tmp_path / "net")


def test_the_first_rate_is_searched_and_steps_are_a_function_of_the_seed(
    reference_model: tuple[Any, Any], records: list[Record], tmp_path: Path
) -> None:
    model, tokenizer = reference_model
    config = MendTraining.from_dict({**QUICK.to_dict(), "edit_rate": None, "steps": 1, "edits_together": 2})
    found = train_hypernetwork(model, tokenizer, records, config, base_model=base_model_of(model), out=tmp_path / "net")
    assert found.validation["untrained"]["loss"] < found.validation["unedited"]["loss"]
    cases = tokenize_records(tokenizer, records)
    assert step_cases(cases, 5, config) == step_cases(cases, 5, config)
    other = MendTraining.from_dict({**config.to_dict(), "seed": 1})
    assert step_cases(cases, 5, config) != step_cases(cases, 5, other)
    # Two steps of four are one epoch of eight: every record once.
    prompts = [case.prompt for step in (0, 1) for some in step_cases(cases, step, config) for case in some]
    assert sorted(p.ids for p in prompts) == sorted(case.prompt.ids for case in cases)


def test_bfloat16_weights_train_and_edit(records: list[Record], tmp_path: Path) -> None:
    models = load_model(str(REFERENCE / "model"), dtype="bfloat16")
    before = fingerprint(models[0])
    config = MendTraining.from_dict({**QUICK.to_dict(), "steps": 2})
    train_hypernetwork(*models, records, config, base_model=base_model_of(models[0]), out=tmp_path / "net")
    assert {t.dtype for t in load_file(tmp_path / "net" / WEIGHTS).values()} == {torch.float32, torch.float64}
    prompts = target_prompts(models[1], requests_of(records[-2:]))
    adapter = compute(models, records[-2:], tmp_path / "net")
    assert fingerprint(models[0]) == before
    with torch.no_grad():
        unedited = target_losses(models[0], prompts).mean()
        apply_adapter(models[0], adapter)
        assert target_losses(models[0], prompts).mean() < unedited


def test_another_base_model_is_refused_and_an_edited_state_is_not(
    reference_model: tuple[Any, Any], llama: tuple[Any, Any], records: list[Record], trained: Path
) -> None:
    other = copy.deepcopy(reference_model[0])
    with torch.no_grad():
        other.transformer.wpe.weight[0, 0] += 1
    with pytest.raises(InputError, match="another base model"):
        compute((other, reference_model[1]), records[:1], trained)
    with pytest.raises(InputError, match=r"no FFN output projection 'transformer.h.2.mlp.c_proj'"):
        compute(llama, records[:1], trained)
    state = copy.deepcopy(reference_model[0])
    apply_adapter(state, compute(reference_model, records[:1], trained))
    compute((state, reference_model[1]), records[1:2], trained)


def _edit_config(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**data, **changes}))


def _edit_tensors(folder: Path, change: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def _rows(**changes: Any) -> list[dict[str, Any]]:
    module = "transformer.h.{}.mlp.c_proj"
    return [{"layer": i, "module": module.format(i), "d_in": 512, "d_out": 128, **changes} for i in LAYERS]


DAMAGE: dict[str, tuple[Any, str]] = {
    "no folder": (lambda f: shutil.rmtree(f), r"mend_config.json is missing; is .* written by 'seqedit train-mend'"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"mend.safetensors is missing"),
    "pickled weights": (lambda f: torch.save({}, f / WEIGHTS), r"mend.safetensors: not readable as safetensors"),
    "cut weights": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "not readable as safetens"),
    "cut config": (lambda f: (f / CONFIG).write_text('{"a":'), r"mend_config.json: not readable as JSON"),
    "other config": (lambda f: (f / CONFIG).write_text("[]"), r"not the configuration of a MEND"),
    "later version": (lambda f: _edit_config(f, version=2), r"version 2 is not known"),
    "no layers": (lambda f: _edit_config(f, layers=[]), r"field 'layers' is empty"),
    "layers": (lambda f: _edit_config(f, layers=3), r"field 'layers' is missing or malformed"),
    "rank": (lambda f: _edit_config(f, rank=None), r"mend_config.json: malformed"),
    "base": (lambda f: _edit_config(f, base_model={}), r"mend_config.json: field 'name' is missing"),
    "huge": (lambda f: _edit_config(f, layers=_rows(d_in=10**7)), r"mend.safetensors: tensor .* is missing"),
    "other rank": (lambda f: _edit_config(f, rank=9), r"tensor .*\.U' is torch.float32 \(640, 8\), .*\(640, 9\)"),
    "tensor gone": (lambda f: _edit_tensors(f, lambda t: t.pop("log_rates")), r"tensor 'log_rates' is missing"),
    "tensor more": (lambda f: _edit_tensors(f, lambda t: t.update(x=torch.ones(1))), r"tensor 'x' is none of"),
    "not finite": (lambda f: _edit_tensors(f, lambda t: t["log_rates"].fill_(float("nan"))), r"not finite"),
    "changed": (lambda f: _edit_tensors(f, lambda t: t["log_rates"].add_(1)), r"the file is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_refused_by_name(
    case: str, reference_model: tuple[Any, Any], records: list[Record], trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "net")
    change, message = DAMAGE[case]
    change(tmp_path / "net")
    with pytest.raises(InputError, match=message):
        compute(reference_model, records[:1], tmp_path / "net")


def test_layers_come_from_the_hypernetwork_or_agree_with_it(trained: Path) -> None:
    assignment = f"hypernetwork={trained}"
    assert method_config("mend", assignments=[assignment]).layers == LAYERS
    config = method_config("mend", assignments=[assignment, "scale=0.5"], layers="3,2")
    assert config.layers == LAYERS
    assert get_method("mend").config.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match=r"trained for layers 2,3, asked for are 4"):
        method_config("mend", assignments=[assignment], layers="4")
    with pytest.raises(InputError, match="needs a trained hypernetwork"):
        method_config("mend")
    with pytest.raises(InputError, match="'scale' must be greater than 0"):
        method_config("mend", assignments=[assignment, "scale=0"])


def test_records_that_cannot_teach_are_refused(reference_model: tuple[Any, Any], records: list[Record]) -> None:
    model, tokenizer = reference_model
    base, out = base_model_of(model), Path("never")
    with pytest.raises(InputError, match="at least 2 records"):
        train_hypernetwork(model, tokenizer, records[:1], QUICK, base_model=base, out=out)
    plain = [Record(r.request) for r in records]
    with pytest.raises(InputError, match="none of the records has neighborhood_prompts"):
        train_hypernetwork(model, tokenizer, plain, QUICK, base_model=base, out=out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("steps", 0), ("rank", 0), ("edits_together", 3), ("validation_share", 1), ("edit_weight", 0), ("edit_rate", -1)],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"'{setting}'"):
        MendTraining.from_dict({setting: value})
