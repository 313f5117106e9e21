"""The search for settings: trials from the cheapest evidence, a preset that is taken, a search that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from seqedit.editing.layer_figures import window
from seqedit.editing.preset_model import preset_warning
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.requests import Neighbor, Record, Request
from seqedit.library.session import Session
from seqedit.models.edited import EditedModel
from seqedit.support.files import read_mapping
from seqedit.tuning.bench import TuneBench
from seqedit.tuning.choice import Trial, failing, ranked, recommended, tied
from seqedit.tuning.guess import LayerFigures, candidate_layers, next_layer
from seqedit.tuning.plot import write_plot
from seqedit.tuning.preset import write_preset
from seqedit.tuning.shown import table
from seqedit.tuning.tune import tune

NAMES = (
    "Venxa Ulmigri",
    "Bado Holul",
    "Bribri Drabazor",
    "Olm Tarko",
    "Sidi Venn",
    "Marla Ket",
    "Ruo Pell",
    "Ina Fosk",
)
FACTS = [Record(Request(name, "{} professionally plays the sport of", "golf", target_true="rowing")) for name in NAMES]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("The sport of golf and the sport of rowing are known to all of them.\n" * 60)
    return tmp_path


def _search(place: Path, edited: EditedModel, method: str = "emmet", **more: Any) -> Any:
    return tune(
        edited, FACTS, method, place / "out", text=str(place / "text.txt"), layers=[1, 2], steps=3, max_tokens=2000,
        **more,
    )  # fmt: skip


def test_a_search_leaves_a_preset_that_is_taken_and_a_model_that_is_unedited(
    place: Path, llama: tuple[Any, Any]
) -> None:
    edited = EditedModel(*llama, name="tiny")
    before = {p.name: p.matrix().clone() for p in edited.parts.projections}
    found = _search(place, edited)
    assert all(torch.equal(p.matrix(), before[p.name]) for p in edited.parts.projections)
    assert found.finished
    assert found.best in found.confirmed
    assert found.held_out == 4
    assert len(found.solved) == 2 * 4 * 2
    write_preset(place / "preset.yaml", found, edited)
    config = method_config("emmet", preset=str(place / "preset.yaml"))
    assert list(config.layers) == found.best.settings["layers"]
    assert config.to_dict()["learning_rate"] == found.best.settings["learning_rate"]
    evidence: Any = read_mapping(place / "preset.yaml")["evidence"]
    assert preset_warning(str(place / "preset.yaml"), edited.parts, "tiny") is None
    made_for: Any = read_mapping(place / "preset.yaml")["model"]
    assert made_for == {
        "hidden_size": 32, "num_layers": 4, "ffn": 96, "vocabulary": 2048, "name": "tiny",
        "fingerprint": edited.base_model.fingerprint,
    }  # fmt: skip
    assert evidence["emmet"]["fingerprint"] == edited.base_model.fingerprint
    assert len(evidence["emmet"]["trials"]) == len(found.solved) + len(found.confirmed)
    assert any(row.startswith("*") for row in table(found))
    with pytest.raises(InputError, match="no settings for method 'memit'"):
        method_config("memit", preset=str(place / "preset.yaml"))


def test_a_resumed_search_makes_no_trial_twice(
    place: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = EditedModel(*llama, name="tiny")
    cut = _search(place, edited, minutes=1e-9)
    assert not cut.finished
    whole = _search(place, edited)

    def never(*_: Any) -> Trial:
        raise AssertionError("made twice")

    monkeypatch.setattr(TuneBench, "solved", never)
    monkeypatch.setattr(TuneBench, "sequence", never)
    assert _search(place, edited).best == whole.best
    with pytest.raises(InputError, match="another model, method or facts"):
        _search(place, edited, "memit")


def test_damaged_target_values_of_a_resumed_search_are_told_with_what_to_do(
    place: Path, llama: tuple[Any, Any]
) -> None:
    edited = EditedModel(*llama, name="tiny")
    _search(place, edited, minutes=1e-9)
    (place / "out" / "trials.json").unlink()
    (file,) = (place / "out" / "values").iterdir()
    held = load_file(file)
    few = {name: tensor[:1].clone() for name, tensor in held.items()}
    damages = [b"{} {0} {subject} {} %s {", save({"others": held["values"]}), save(few),
               save({**held, "values": held["values"] / 0})]  # fmt: skip
    for damage in damages:
        file.write_bytes(damage)
        with pytest.raises(InputError, match=rf"values/{file.name}.*; delete it"):
            _search(place, edited)


def test_a_search_is_another_one_where_a_facts_neighbours_are_others(place: Path, llama: tuple[Any, Any]) -> None:
    edited = EditedModel(*llama, name="tiny")
    _search(place, edited)
    others = [replace(record, neighborhood_prompts=(Neighbor("Another prompt", "x"),)) for record in FACTS]
    with pytest.raises(InputError, match="another"):
        tune(
            edited,
            others,
            "emmet",
            place / "out",
            text=str(place / "text.txt"),
            layers=[1, 2],
            steps=3,
            max_tokens=2000,
        )


def test_what_cannot_be_tuned_is_refused_before_anything_is_computed(place: Path, llama: tuple[Any, Any]) -> None:
    edited = EditedModel(*llama, name="tiny")
    with pytest.raises(
        InputError, match=r"'ft' cannot be tuned: .* choose alphaedit, emmet, evoedit, memit, pmet, rome"
    ):
        _search(place, edited, "ft")
    with pytest.raises(InputError, match="at least 8 calibration facts, got 3"):
        tune(edited, FACTS[:3], "emmet", place / "out")


def test_the_guessed_weight_writes_the_share_that_was_asked_for() -> None:
    figures = LayerFigures(1, 100.0, 7.0, 500.0, 0.5)
    for share, a in ((0.5, 1.0), (0.9, 0.1)):
        weight = figures.weight_for(share, a)
        assert 500 / (500 + a * weight) == pytest.approx(share, abs=0.01)
    assert candidate_layers(30) == (5, 9, 14)
    assert window(1) == (0, 1)


@pytest.mark.parametrize("method", ["pmet", "rome", "alphaedit"])
def test_other_closed_forms_are_searched_by_what_they_have(
    place: Path, llama: tuple[Any, Any], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = EditedModel(*llama, name="tiny")
    if method == "alphaedit":
        monkeypatch.setattr("seqedit.methods.alphaedit.AlphaEditConfig.nullspace_threshold", 10.0)
    found = _search(place, edited, method)
    write_preset(place / "preset.yaml", found, edited)
    config: Any = method_config(method, preset=str(place / "preset.yaml"))
    written = {"pmet": "second_moment_weight", "alphaedit": "l2"}.get(method)
    assert len(found.solved) == {"rome": 2, "pmet": 16, "alphaedit": 16}[method]
    if written is not None:
        assert len({trial.settings[written] for trial in found.solved}) == 8
        assert getattr(config, written) == found.best.settings[written]


def test_what_the_probe_cannot_tell_apart_is_confirmed_while_there_is_time(place: Path, llama: tuple[Any, Any]) -> None:
    found = _search(place, EditedModel(*llama, name="tiny"))
    assert len(found.confirmed) > 3
    unprotected = [t for t in found.confirmed if not t.settings["protect_earlier"]]
    longer = [t for t in found.confirmed if t.settings["steps"] != 3]
    tight = [t for t in found.confirmed if "clamp_norm_factor" in t.settings]
    assert (len(unprotected), len(longer), len(tight)) == (1, 1, 1)


def _ns(last: int, ns: float, es: float = 100.0) -> Trial:
    return Trial({"layers": [last]}, "solved", 8, {"NS": ns, "ES": es}, (1.0,), ns)


def test_where_the_neighbours_are_lost_the_search_goes_on_the_way_that_the_trend_points() -> None:
    lost = [_ns(3, 40), _ns(5, 20), _ns(8, 10)]
    assert next_layer(lost, 62, 18) == 1
    assert next_layer([*lost, _ns(1, 45)], 62, 18) == 0
    assert next_layer([*lost, _ns(1, 55)], 62, 18) is None  # kept: within ten points
    assert next_layer([*lost, _ns(1, 30)], 62, 18) is None  # no trend
    assert next_layer([_ns(3, 10), _ns(5, 20), _ns(8, 40)], 62, 18) == 13
    assert next_layer(lost, None, 18) is None
    assert next_layer([_ns(0, 20), _ns(3, 10)], 62, 18) is None


def test_a_search_without_a_good_enough_setting_says_so() -> None:
    assert failing(_ns(3, 50), 62) is None
    assert "NS 40 of the unedited model's 62" in str(failing(_ns(3, 40), 62))
    assert "reaches ES 80" in str(failing(_ns(3, 60, 80), 62))
    assert failing(_ns(3, 60), None) is None


def test_further_layers_are_solved_where_the_first_ones_lose_the_neighbours(
    place: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def further(trials: Any, unedited: Any, count: int) -> int | None:
        asked.append(len(trials))
        return None if len(asked) > 1 else 3

    monkeypatch.setattr("seqedit.tuning.tune.next_layer", further)
    monkeypatch.setattr("seqedit.tuning.tune.candidate_layers", lambda _: (0,))
    found = tune(
        EditedModel(*llama, name="tiny"), FACTS, "emmet", place / "out", text=str(place / "text.txt"), steps=3,
        max_tokens=2000,
    )  # fmt: skip
    assert sorted(found.converged) == [0, 3]
    assert len(asked) == 2


def test_a_variant_is_recommended_only_where_the_facts_tell_it_from_the_plain_settings() -> None:
    plain = _trial(90, 1, 1, 1, 0.75)
    near, far = replace(plain, settings={"x": 1}, goal=95.0), _trial(99, 1, 1, 1, 1)
    assert recommended([near, plain], [plain]) is plain
    assert recommended([far, replace(plain, per_fact=(0.0, 0.0, 0.1, 0.0))], [plain]) is far


def test_the_picture_of_a_search_is_written(place: Path, llama: tuple[Any, Any]) -> None:
    found = _search(place, EditedModel(*llama, name="tiny"))
    assert write_plot(place / "tune.png", found).stat().st_size > 10_000


def _trial(goal: float, *facts: float) -> Trial:
    return Trial({"second_moment_weight": goal}, "solved", len(facts), {}, facts, goal)


def test_trials_are_tied_unless_their_facts_tell_them_apart() -> None:
    good, same, bad = _trial(90, 1, 1, 1, 1), _trial(80, 1, 1, 1, 0.75), _trial(20, 0.25, 0.25, 0.5, 0.25)
    assert ranked([bad, same, good]) == [good, same, bad]
    assert tied(good, same)
    assert not tied(good, bad)


def test_a_session_tunes_on_the_unedited_model_and_is_at_its_own_state_afterwards(
    place: Path, llama: tuple[Any, Any]
) -> None:
    model, tokenizer = llama
    model.save_pretrained(place / "tiny")
    tokenizer.save_pretrained(place / "tiny")
    options: dict[str, Any] = {"text": str(place / "text.txt"), "layers": [1], "steps": 3, "max_tokens": 2000}
    session = Session.from_pretrained(place / "tiny", ledger=place / "ledger", context_templates=[["{}"]])
    fresh = session.tune(FACTS, "memit", out=place / "before", **options)
    session.edit(FACTS[:2], "ft", layers=[1], learning_rate=0.01, steps=3)
    edited = {p.name: p.matrix().clone() for p in session.edited.parts.projections}
    found = session.tune(FACTS, "memit", out=place / "after", **options)
    assert found.best.to_dict() == fresh.best.to_dict()
    assert all(torch.equal(p.matrix(), edited[p.name]) for p in session.edited.parts.projections)
    assert (place / "after" / "preset.yaml").is_file()
    session.close()


def test_what_is_expected_to_pass_the_budget_is_not_begun(
    place: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    values = TuneBench.target_values

    def slow(self: TuneBench, *given: Any) -> Any:
        nonlocal now
        now += 40  # seconds
        return values(self, *given)

    monkeypatch.setattr(TuneBench, "target_values", slow)
    monkeypatch.setattr("seqedit.tuning.budget.time.monotonic", lambda: now)
    told: list[str] = []
    found = _search(place, EditedModel(*llama, name="tiny"), minutes=1.0, report=told.append)
    assert list(found.converged) == [1]  # a second layer would have ended at 80 s
    assert not found.confirmed
    assert not found.finished
    assert now == 40
    assert "1 of 2 layers were not tried" in told[-1]


def test_a_resumed_search_knows_what_its_stages_took_and_takes_what_is_there_whatever_the_budget(
    place: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    sequence = TuneBench.sequence

    def slow(self: TuneBench, *given: Any) -> Any:
        nonlocal now
        now += 50
        return sequence(self, *given)

    monkeypatch.setattr(TuneBench, "sequence", slow)
    monkeypatch.setattr("seqedit.tuning.budget.time.monotonic", lambda: now)
    edited = EditedModel(*llama, name="tiny")
    first = _search(place, edited, minutes=1.0)
    assert len(first.confirmed) == 1  # the second would have ended at 100 s
    again = _search(place, edited, minutes=0.5)  # one of 50 s does not fit, and that is known from the file
    assert len(again.solved) == len(first.solved)
    assert len(again.confirmed) == 1
    assert now == 50
    whole = _search(place, edited, minutes=10.0)
    assert whole.finished
    assert len(whole.confirmed) > 1
