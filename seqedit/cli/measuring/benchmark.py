"""``seqedit benchmark``: MQuAKE, RippleEdits and real-life answers, before and after edits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_adapters
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import (
    AdapterOption,
    ChatTemplateOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    HparamsOption,
    JoinOption,
    JsonOption,
    ModelOption,
    PresetOption,
    SecondMomentsOption,
    SetOption,
    SkipUnusableOption,
    TemplateSeedOption,
    ZsreOption,
)
from seqedit.cli.output import tokenizer_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

if TYPE_CHECKING:
    from seqedit.comparing.case_sets import Edits
    from seqedit.facts.reading.unusable import Skipped

NAMES = ("mquake", "ripple", "real-life")


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="mquake, ripple or real-life.")],
    model: ModelOption,
    records: Annotated[
        str, typer.Option(help="MQuAKE or RippleEdits JSON; for real-life any fact file. demo:mquake.json, ...")
    ],
    adapter: AdapterOption = None,
    method: Annotated[str | None, typer.Option(help="Instead: edit the cases' own requests with this method.")] = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    second_moments: SecondMomentsOption = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Cases edited together, each batch from the unedited model. [default: all]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first cases.")] = None,
    template: Annotated[
        str, typer.Option(help="Around a question: question-only, qa, or a text with {}. Not for ripple.")
    ] = "question-only",
    demonstrations: Annotated[
        Path | None, typer.Option(help="Text file to put before every question of mquake and real-life.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 50,
    zsre: ZsreOption = "mend",
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    seed: TemplateSeedOption = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Score what follows from edits, by free generation: multi-hop questions (mquake), ripple effects (ripple), or the
    usual prompts as a user would meet them (real-life), beside the teacher-forced scores. Without --adapter and
    --method the unedited model is scored.

    Example: seqedit benchmark mquake --model demo-llama --records demo:mquake.json --method emmet --preset demo-llama
    """
    if name not in NAMES:
        raise InputError(f"unknown benchmark {name!r}; known: {', '.join(NAMES)}{did_you_mean(name, NAMES)}")
    if name == "ripple" and (template != "question-only" or demonstrations is not None):
        raise InputError("ripple prompts are texts to be continued; --template and --demonstrations are not for them")
    if method is None and (preset or hparams or set_ or batch_size or second_moments):
        raise InputError("--preset, --hparams, --set, --second-moments and --batch-size need --method")

    from evals.answers.answers import Asking
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import BY_RULE, MethodChoice
    from seqedit.facts.reading.unusable import told
    from seqedit.text.framing import Framing

    choice = MethodChoice(preset=preset, hparams=hparams, assignments=tuple(set_ or ()))
    chosen = None if method is None else choice.settings_of(method)
    loading = Loading(model, second_moments, dtype=dtype, device=device)
    framing = Framing(join, chat_template)
    asking = Asking(template, _read(demonstrations), max_new_tokens)
    check_adapters(adapter or [])
    left: list[Skipped] = []
    # Published RippleEdits files hold cases whose names cannot be told; they are always left out, aloud.
    cases = _cases(name, records, limit, zsre, left.append if skip_unusable or name == "ripple" else None)
    unusable = [f"{item.where}: {item.message}" for skipped in left for item in skipped.records]
    for skipped in left:
        if not cases:
            raise InputError(f"{records}: none of its {skipped.of} cases can be used: {told(skipped.records)}")
        say(skipped, err=True)

    from seqedit.adapters.adapter import Adapter
    from seqedit.cli.editing.edit import tell_settled
    from seqedit.comparing import case_sets
    from seqedit.editing.editor import Editor
    from seqedit.editing.preset_model import preset_warning
    from seqedit.editing.rule import settle

    adapters = [Adapter.from_pretrained(path) for path in adapter or []]
    cases, chat = case_sets.framed(cases, framing, [r for made in adapters for r in made.requests], tokenizer_of(model))
    asking = replace(asking, chat_template=chat)
    if dry_run:
        from seqedit.editing.rule import planned

        ahead = None if chosen is None else planned(chosen, loading.check()).config
        loading.check(layers=() if ahead is None else ahead.layers)
        edits = case_sets.Edits(adapters, method, ahead, batch_size, second_moments, seed)
        _tell_plan(name, model, cases, edits, unusable, left, json_)
        return
    edited = loading.load()
    warning = None if preset == BY_RULE else preset_warning(preset, edited.parts, model)
    if warning is not None:
        say(f"warning: {warning}", err=True)
    config = None
    if chosen is not None:
        tell_settled(settled := settle(chosen, Editor(edited, loading.moments(edited))))
        config = settled.config
    edits = case_sets.Edits(adapters, method, config, batch_size, second_moments, seed)
    run: dict[str, Any] = {
        "mquake": case_sets.run_mquake,
        "ripple": case_sets.run_ripple,
        "real-life": case_sets.run_real_life,
    }
    with interrupts_told(
        lambda: "nothing was scored to its end, and nothing is kept; with --limit there are fewer cases"
    ):
        result = run[name](edited, cases, edits, asking) | {"left_out": unusable} | _counted(left)
    if json_:
        print_json(result)
        return
    for text in {"mquake": _mquake_lines, "ripple": _ripple_lines, "real-life": _real_life_lines}[name](result):
        say(text)


def _counted(left: Sequence[Skipped]) -> dict[str, Any]:
    return {"skipped": left[0].to_dict()} if left else {}


def _tell_plan(
    name: str, model: str, cases: Any, edits: Edits, unusable: list[str], left: Sequence[Skipped], json_: bool
) -> None:
    by = edits.method or (f"{len(edits.adapters)} adapters" if edits.adapters else None)
    plan = {
        "operation": "benchmark", "benchmark": name, "model": model, "cases": len(cases), "edited_by": by,
        "batch_size": edits.batch_size, "left_out": unusable, **_counted(left),
    }  # fmt: skip
    how = "unedited" if by is None else f"before and after edits by {by}"
    if edits.batch_size is not None:
        how += f", {edits.batch_size} cases at a time"
    tell_planned(plan, [f"would score {len(cases)} cases of {name} on {model}, {how}"], json_)


def _cases(name: str, records: str, limit: int | None, zsre: str, on_skipped: Callable[[Skipped], None] | None) -> Any:
    if name == "mquake":
        from seqedit.cases.mquake import load_mquake

        return load_mquake(records, limit=limit, on_skipped=on_skipped)
    if name == "ripple":
        from seqedit.cases.ripple import load_ripple

        return load_ripple(records, limit=limit, on_skipped=on_skipped)
    from seqedit.facts.loading import read_facts

    found = read_facts(records, limit=limit, zsre=zsre, skip_unusable=on_skipped is not None)
    if found.skipped is not None and on_skipped is not None:
        on_skipped(found.skipped)
    return found.records


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    from seqedit.support.reading import read_text

    return read_text(path)


def _cell(share: Mapping[str, Any] | None) -> str:
    """A share with its interval."""
    if share is None or share["value"] is None:
        return "-".rjust(21)
    return f"{share['value']:5.1f} [{share['ci_low']:5.1f}, {share['ci_high']:5.1f}]"


def _mquake_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [f"{result['cases']} cases, {result['edits']} edits; in percent [95 % interval]"]
    if result["disturbed"]:
        lines.append(f"{len(result['disturbed'])} cases need a fact that another case of their batch changes")
    views = {
        "before": "unedited model, old answers",
        "unedited": "unedited model, new answers",
        "after": "edited model, new answers",
        "stale": "edited model, old answers",
    }
    for match in ("exact", "contained"):
        lines.append(f"{match:<28}" + "".join(f"{h:>22}" for h in ("edit-wise", "instance-wise", "multi-hop")))
        for view, title in views.items():
            if view in result[match]:
                row = result[match][view]
                cells = (row["edit_wise"], row["instance_wise"], row["multi_hop"])
                lines.append(f"{title:<28}" + "".join(f" {_cell(cell)}" for cell in cells))
    return lines


def _ripple_lines(result: Mapping[str, Any]) -> list[str]:
    from seqedit.cases.case import CRITERIA

    before, after = result["contained"]["before"], result["contained"].get("after")
    heads = "".join(f"{h:>22}" for h in ("before", "after", "edits that took"))
    lines = [f"{result['cases']} edits; in percent [95 % interval]", f"{'':<24}{'tests':>12}{heads}"]
    for name in CRITERIA:
        old, new = before[name], (after or {}).get(name)
        tests = f"{old['counted']} of {old['tests']}"
        cells = [old["accuracy"], new and new["accuracy"], new and new["accuracy_where_taken"]]
        lines.append(f"{name:<24}{tests:>12}" + "".join(f" {_cell(cell)}" for cell in cells))
    cells = [before["edit_success"], after and after["edit_success"]]
    lines.append(f"{'the edit itself':<24}{result['cases']:>12}" + "".join(f" {_cell(cell)}" for cell in cells))
    return lines


def _real_life_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [f"{result['records']} records; in percent [95 % interval]"]
    titles = {"T": "forced, per token", "M": "forced, exact", "R": "real life, exact", "C": "real life, contained"}
    for view in ("before", "after"):
        if view not in result:
            continue
        lines.append(f"{view:<22}" + "".join(f"{h:>22}" for h in ("edited prompt", "paraphrases", "neighbourhood")))
        for kind, title in titles.items():
            lines.append(f"{title:<22}" + "".join(f" {_cell(result[view][group + kind])}" for group in "EPN"))
    if "unchanged" in result:
        lines.append(f"{'same answer as before':<22}" + " " * 44 + f" {_cell(result['unchanged'])}")
    return lines
