"""Causal tracing: the three runs agree where they must, on every family, and planted layers are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request
from seqedit.locating.effects import Effects, mean_interval, suggest_layers
from seqedit.locating.locate import default_window, locate
from seqedit.locating.location import TraceConfig
from seqedit.locating.noise import embedding_std
from seqedit.locating.prompts import LAST, LAST_SUBJECT, TOKEN_CLASSES, TracePrompt, tokenize_for_trace
from seqedit.locating.tracer import KINDS, CorruptedRun, Tracer, window
from seqedit.models.anatomy import anatomy
from tests.conftest import REFERENCE
from tests.models.test_anatomy import FAMILIES, WIDE

PROMPT = TracePrompt(ids=(1, 17, 30, 8, 22, 41, 5), begin=1, end=4)
SAMPLES = 3
ANSWER = 11


def build(family: str) -> Any:
    """A tiny random model whose noise matters: larger weights than the usual 0.02."""
    torch.manual_seed(0)
    # Qwen2's default of 32 key-value heads cannot run beside 4 heads.
    qwen = Qwen2Config(**WIDE, num_key_value_heads=2)
    model = Qwen2ForCausalLM(qwen).eval() if family == "qwen2" else FAMILIES[family][0]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return model


def noise(model: Any, scale: float = 3.0) -> Tensor:
    width = model.get_input_embeddings().weight.shape[1]
    std = embedding_std(model, [PROMPT])
    return (
        scale * std * torch.randn(SAMPLES, PROMPT.end - PROMPT.begin, width, generator=torch.Generator().manual_seed(3))
    )


def corrupted(model: Any, scale: float = 3.0, **settings: Any) -> tuple[Tracer, CorruptedRun]:
    tracer = Tracer(model, anatomy(model), **settings)
    return tracer, tracer.corrupted(tracer.clean(PROMPT), noise(model, scale))


def plain_restoration(model: Any, added: Tensor, modules: Sequence[nn.Module], positions: Sequence[int]) -> Tensor:
    """(samples,) probabilities, the slow way: whole forward passes, one row at a time, hooks written apart."""
    ids = torch.tensor([PROMPT.ids])
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        kept[module] = (output[0] if isinstance(output, tuple) else output).reshape(len(PROMPT.ids), -1).clone()

    def put(module: nn.Module, args: Any, output: Any) -> Any:
        state = output[0] if isinstance(output, tuple) else output
        flat = state.reshape(len(PROMPT.ids), -1).clone()
        flat[list(positions)] = kept[module][list(positions)]
        return (flat.view_as(state), *output[1:]) if isinstance(output, tuple) else flat.view_as(state)

    found = []
    with torch.no_grad():
        handles = [m.register_forward_hook(keep) for m in modules]
        model(input_ids=ids)
        for handle in handles:
            handle.remove()
        for sample in added:

            def corrupt(module: nn.Module, args: Any, output: Tensor, sample: Tensor = sample) -> Tensor:
                return output + torch.cat([torch.zeros(1, sample.shape[1]), sample, torch.zeros(3, sample.shape[1])])

            handles = [m.register_forward_hook(put) for m in modules]
            handles.append(model.get_input_embeddings().register_forward_hook(corrupt))
            found.append(model(input_ids=ids).logits[0, -1].softmax(-1)[ANSWER].double())
            for handle in handles:
                handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_restorations_are_those_of_whole_forward_passes_with_hooks(family: str) -> None:
    model = build(family)
    tracer, run = corrupted(model)
    added = run.noise
    torch.testing.assert_close(
        run.probabilities[:, ANSWER].double(), plain_restoration(model, added, [], []), rtol=1e-4, atol=1e-6
    )
    moved = 0.0
    for kind in KINDS:
        for layers in ([0], [1], [2]) if kind == "layer" else ([0, 1], [1, 2]):
            positions = [[1], [3], [6], [2, 3]]
            found = tracer.restored(run, kind, layers, positions, ANSWER)
            modules = [tracer.modules[kind][layer] for layer in layers]
            for row, together in zip(found, positions, strict=True):
                expected = plain_restoration(model, added, modules, together)
                torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-6)
            moved = max(moved, float((found - run.probabilities[:, ANSWER].double()).abs().max()))
    assert moved > 1e-4, "no restoration did anything, so nothing was compared"


@pytest.mark.parametrize("family", FAMILIES)
def test_restoring_everything_gives_the_clean_answer_and_no_noise_gives_no_effect(family: str) -> None:
    model = build(family)
    tracer, run = corrupted(model)
    clean = run.clean.probabilities[ANSWER].double().expand(1, SAMPLES)
    assert float((run.probabilities[:, ANSWER] - run.clean.probabilities[ANSWER]).abs().max()) > 1e-5
    everywhere = [range(len(PROMPT.ids))]
    for layer in range(3):
        torch.testing.assert_close(
            tracer.restored(run, "layer", [layer], everywhere, ANSWER), clean, rtol=1e-5, atol=1e-8
        )
    subject = [range(PROMPT.begin, len(PROMPT.ids))]
    torch.testing.assert_close(tracer.restored(run, "layer", [0], subject, ANSWER), clean, rtol=1e-5, atol=1e-8)
    last = tracer.restored(run, "layer", [2], [[6]], ANSWER)
    torch.testing.assert_close(last, clean, rtol=1e-5, atol=1e-8)
    elsewhere = tracer.restored(run, "layer", [2], [[3], [5]], ANSWER)
    torch.testing.assert_close(elsewhere, run.probabilities[:, ANSWER].double().expand(2, -1), rtol=1e-5, atol=1e-8)

    tracer, quiet = corrupted(model, scale=0.0)
    for kind in KINDS:
        found = tracer.restored(quiet, kind, [1], [[1], [3], [6]], ANSWER)
        torch.testing.assert_close(found, clean.expand(3, -1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("crossing", [0, 1, 2])
def test_the_layer_where_the_fact_moves_to_the_last_token_is_found(family: str, crossing: int) -> None:
    """Attention works in one layer only: below it the subject holds the fact, from there on the last token does."""
    model = build(family)
    parts = anatomy(model)
    with torch.no_grad():
        for layer in {0, 1, 2} - {crossing}:
            for parameter in parts.attention_output(layer).module.parameters():
                parameter.zero_()
    tracer, run = corrupted(model)
    clean = run.clean.probabilities[ANSWER].double()
    low = run.probabilities[:, ANSWER].double()
    for layer in range(3):
        subject, last = tracer.restored(run, "layer", [layer], [[1, 2, 3], [6]], ANSWER)
        carried, lost = (subject, last) if layer < crossing else (last, subject)
        torch.testing.assert_close(carried, clean.expand(SAMPLES), rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(lost, low, rtol=1e-5, atol=1e-8)
        attention = tracer.restored(run, "attention", [layer], [[6]], ANSWER)[0]
        torch.testing.assert_close(attention, clean.expand(SAMPLES) if layer == crossing else low, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("family", ["gptj", "opt"])
def test_the_size_of_a_forward_pass_changes_nothing_and_the_model_is_left_as_it_was(family: str) -> None:
    model = build(family).train()
    positions = [[1], [2], [3], [4], [5], [6]]
    results = []
    for max_tokens in (1, 30, 10_000):
        tracer, run = corrupted(model, max_tokens=max_tokens)
        results.append(torch.stack([tracer.restored(run, kind, [0], positions, ANSWER) for kind in KINDS]))
    torch.testing.assert_close(results[0], results[2], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(results[1], results[2], rtol=1e-5, atol=1e-8)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in model.modules())


def test_of_a_projection_with_a_lora_the_whole_output_is_restored() -> None:
    plain = build("llama")
    model = get_peft_model(
        plain, LoraConfig(r=2, target_modules=["down_proj", "o_proj"], init_lora_weights=False)
    ).eval()
    tracer, run = corrupted(model)
    for kind in ("ffn", "attention"):
        assert all(hasattr(module, "lora_A") for module in tracer.modules[kind])
        found = tracer.restored(run, kind, [0, 1], [[3]], ANSWER)[0]
        expected = plain_restoration(model, run.noise, tracer.modules[kind][:2], [3])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_and_weights_that_are_offloaded_work(dtype: torch.dtype) -> None:
    from accelerate import cpu_offload

    model = build("gpt2").to(dtype)
    tracer, run = corrupted(model)
    here = tracer.restored(run, "ffn", [0, 1], [[3], [6]], ANSWER)
    assert bool(torch.isfinite(here).all())
    away = build("gpt2").to(dtype)
    cpu_offload(away, execution_device=torch.device("cpu"))
    tracer = Tracer(away, anatomy(away))
    run = tracer.corrupted(tracer.clean(PROMPT), run.noise)
    torch.testing.assert_close(tracer.restored(run, "ffn", [0, 1], [[3], [6]], ANSWER), here)


@pytest.mark.parametrize(
    ("centre", "width", "expected"),
    [(3, 1, [3]), (3, 2, [2, 3]), (3, 3, [2, 3, 4]), (0, 2, [0]), (0, 4, [0, 1]), (5, 4, [3, 4, 5])],
)
def test_windows_lie_where_the_public_code_puts_them(centre: int, width: int, expected: list[int]) -> None:
    assert list(window(centre, width, 6)) == expected
    assert [default_window(layers) for layers in (1, 3, 6, 12, 28, 48)] == [1, 1, 2, 4, 9, 10]


# Tokens and their classes.


def classes(tokenizer: Any, prompt: str, subject: str) -> dict[str, list[str]]:
    found = tokenize_for_trace(tokenizer, Request(subject, prompt, "golf"))
    return {name: [tokenizer.decode([found.ids[p]]) for p in at] for name, at in found.classes().items()}


@pytest.mark.parametrize("name", ["reference_model", "llama"])
def test_every_token_from_the_subject_on_is_in_one_class(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)[1]
    found = classes(tokenizer, "The sport of {} is known to be", "Venxa Ulmigri")
    subject = "".join(part for key in TOKEN_CLASSES[:3] for part in found.get(key, []))
    assert subject.strip() == "Venxa Ulmigri"
    assert len(found[TOKEN_CLASSES[0]]) == len(found[LAST_SUBJECT]) == len(found[LAST]) == 1
    assert "".join(found["first subsequent token"] + found["further tokens"] + found[LAST]) == " is known to be"


def test_a_short_subject_and_a_prompt_that_ends_with_its_subject() -> None:
    one = TracePrompt((5, 6, 7, 8), begin=1, end=2)
    assert one.classes() == {LAST_SUBJECT: [1], "first subsequent token": [2], LAST: [3]}
    at_the_end = TracePrompt((5, 6, 7, 8), begin=1, end=4)
    assert at_the_end.classes() == {"first subject token": [1], "middle subject tokens": [2]}


def test_a_subject_without_tokens_is_refused(reference_model: Any) -> None:
    class Blind:
        is_fast = True

        def __call__(self, text: str, **_: Any) -> dict[str, Any]:
            return {"input_ids": [1, 2], "offset_mapping": [(0, 0), (0, 0)], "special_tokens_mask": [0, 0]}

    with pytest.raises(RequestError, match="subject 'Lyon' has no token"):
        tokenize_for_trace(Blind(), Request("Lyon", "{} is", "golf"))


# Averages and the suggestion.


def test_intervals_are_students_t() -> None:
    found = mean_interval(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert found.mean == 2.5
    assert found.ci_low == pytest.approx(2.5 - 3.182446 * 1.290994 / 2, abs=1e-5)
    assert found.ci_high == pytest.approx(2.5 + 3.182446 * 1.290994 / 2, abs=1e-5)
    assert mean_interval(torch.tensor([0.25])).to_dict() == {"mean": 0.25, "ci_low": None, "ci_high": None, "facts": 1}
    assert mean_interval(torch.zeros(0)).mean is None


def test_the_suggestion_ends_at_the_peak_and_says_how_sure_it_is() -> None:
    shape = torch.zeros(48, dtype=torch.float64)
    shape[17], shape[16], shape[2] = 0.5, 0.45, -0.2
    facts = shape + 0.05 * torch.randn(20, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = suggest_layers(Effects(facts))
    assert (found.layers, found.peak, found.clear) == ((13, 14, 15, 16, 17), 17, True)
    assert set(found.alike) <= {16}
    assert suggest_layers(Effects(facts[:, 16:22])).layers == (1,)
    assert suggest_layers(Effects(facts[:, 17:])).layers == (0,), "a window below the first layer is cut off"

    flat = 0.1 * torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.1
    assert not suggest_layers(Effects(flat)).clear
    single = suggest_layers(Effects(facts[:1]))
    assert not single.clear
    assert len(single.alike) == 47
    assert suggest_layers(Effects(torch.zeros(0, 6))).layers == ()


# Many facts.


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    path = Path(tmp_path_factory.mktemp("facts")) / "records.json"
    path.write_text(json.dumps(case["records"]))
    return [record.request for record in load_records(path)]


CONFIG = TraceConfig(samples=4)


def test_a_trained_model_shows_the_two_sites_of_the_paper(reference_model: Any, facts: list[Request]) -> None:
    found = locate(*reference_model, facts, CONFIG)
    data = found.to_dict()
    assert data["facts"] == {"given": 8, "traced": 8, "unknown": 0}
    assert data["clean"]["mean"] > 0.9
    assert data["corrupted"]["mean"] < 0.1
    early, late = (found.effects("layer", name).values.mean(0) for name in (LAST_SUBJECT, LAST))
    assert early[0] > 0.1 > abs(early[5]), "the last subject token holds the fact early"
    assert late[5] > 0.9 > 0.3 > late[0], "the last token holds it late"
    assert found.suggestion().peak in (0, 1), "the windows of two layers that hold layer 0"
    json.dumps(data)
    again = locate(*reference_model, facts, CONFIG).to_dict()
    assert again == data
    other = locate(*reference_model, facts[:2], TraceConfig(samples=4, seed=1)).to_dict()
    assert other["prompts"][0]["corrupted"] != data["prompts"][0]["corrupted"]


def test_the_noise_of_a_fact_does_not_depend_on_the_others_but_for_its_size(
    reference_model: Any, facts: list[Request]
) -> None:
    forward = locate(*reference_model, facts[:3], TraceConfig(samples=2))
    backward = locate(*reference_model, facts[2::-1], TraceConfig(samples=2), max_tokens=64)
    assert backward.noise_std == pytest.approx(forward.noise_std)
    for one, other in zip(forward.facts, reversed(backward.facts), strict=True):
        assert one.request == other.request
        assert one.corrupted == pytest.approx(other.corrupted, rel=1e-4)
        for kind in KINDS:
            for name, effects in one.effects[kind].items():
                torch.testing.assert_close(effects, other.effects[kind][name], rtol=1e-3, atol=1e-5)


def test_only_what_the_model_knows_is_traced(reference_model: Any, facts: list[Request]) -> None:
    wrong = Request(facts[0].subject, facts[0].prompt, "golf", target_true="baker", case_id=7)
    own = Request(facts[0].subject, facts[0].prompt, "golf")
    found = locate(*reference_model, [wrong, own], TraceConfig(samples=1)).to_dict()
    assert found["facts"] == {"given": 2, "traced": 1, "unknown": 1}
    assert found["left_out"] == [
        {"case_id": 7, "prompt": wrong.text, "target_true": "baker", "answer": found["prompts"][0]["answer"]}
    ]
    with pytest.raises(InputError, match="none of the 1 facts is known to the model"):
        locate(*reference_model, [wrong], TraceConfig(samples=1))


def test_prompts_that_end_with_their_subject_suggest_nothing(reference_model: Any) -> None:
    found = locate(*reference_model, [Request("Venxa Ulmigri", "The sport of {}", "golf")], TraceConfig(samples=1))
    assert found.suggestion().layers == ()
    assert found.to_dict()["effects"]["ffn"][LAST][0] == {"mean": None, "ci_low": None, "ci_high": None, "facts": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"samples": 0}, "samples must be"), ({"noise": -1.0}, "noise must be"),
     ({"noise": float("nan")}, "noise must be"), ({"window": 0}, "window must be"),
     ({"window": 7}, "a window of 7 layers is wider than the model, which has 6")],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(
    changes: dict[str, Any], message: str, reference_model: Any, facts: list[Request]
) -> None:
    with pytest.raises(InputError, match=message):
        locate(*reference_model, facts, TraceConfig(**changes))


def test_no_facts_are_refused(reference_model: Any) -> None:
    with pytest.raises(InputError, match="no facts"):
        locate(*reference_model, [])
