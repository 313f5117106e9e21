"""``seqedit tune``: settings for a model and a method, found on calibration facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import (
    ChatTemplateOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    FewshotOption,
    JoinOption,
    JsonOption,
    NumFewshotOption,
    SkipUnusableOption,
    TaskDocumentsOption,
    TaskOption,
)
from seqedit.cli.output import facts_told, files_of_tasks, skipped_json, tokenizer_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import CheckFailed
from seqedit.text.plain_text import DEFAULT


@app.command()
def tune(
    model: Annotated[str, typer.Option(help="Hub id, local directory, GGUF file, or demo-gpt2 / demo-llama.")],
    records: Annotated[str, typer.Option(help="Calibration facts, apart from those to be edited later.")],
    method: Annotated[
        str, typer.Option(help="A closed form: emmet, memit, pmet, rome, alphaedit or evoedit.")
    ] = "emmet",
    minutes: Annotated[float, typer.Option(help="Time budget; what would pass it is not begun.")] = 15.0,
    out: Annotated[Path, typer.Option(help="Folder of preset.yaml and trials; a search is resumed from it.")] = Path(
        "tuned"
    ),
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    limit: Annotated[int, typer.Option(help="Take only the first facts.")] = 32,
    skip_unusable: SkipUnusableOption = False,
    layers: Annotated[str | None, typer.Option(help="Layers to try, e.g. 4,6,8. [default: three depths]")] = None,
    text: Annotated[str | None, typer.Option(help=f"Text for second moments. [default: {DEFAULT}]")] = None,
    max_tokens: Annotated[int, typer.Option(help="Sample size for second moments, in tokens.")] = 20_000,
    steps: Annotated[int, typer.Option(help="Optimisation steps.")] = 25,
    seed: Annotated[int, typer.Option(help="Seed of the context templates.")] = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    task: TaskOption = None,
    num_fewshot: NumFewshotOption = None,
    fewshot: FewshotOption = None,
    task_documents: TaskDocumentsOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where no setting found is good enough.")
    ] = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Find settings for a model on calibration facts, and write them as a preset with their evidence.

    Good enough is ES of at least 90 at no more than 15 points of NS lost; where nothing found is, a warning says so.

    Example: seqedit tune --model ./my-model --records facts.json --method memit --minutes 15 --out tuned
    """
    from seqedit.support.config import coerce
    from seqedit.text.framing import Framing
    from seqedit.text.plain_text import TextSource
    from seqedit.tuning.tunable import check_method, check_search

    # All that can be wrong is found before anything that computes is imported.
    check_method(method)
    chosen = coerce("layers", layers, tuple[int, ...]) if layers else None
    read = facts_told(records, limit=limit, skip_unusable=skip_unusable)
    facts = Framing(join, chat_template).of(read.records, tokenizer_of(model))
    if text is not None:
        TextSource(text).check()
    from seqedit.editing.loading import Loading

    loading = Loading(model, text=text, dtype=dtype, device=device)
    check_search(facts, method, minutes)
    from seqedit.library.inputs import tasks_of

    tasks = tasks_of(files_of_tasks(task, num_fewshot, fewshot), limit=task_documents)

    from seqedit.tuning.plot import write_plot
    from seqedit.tuning.preset import evidence, write_preset
    from seqedit.tuning.shown import table
    from seqedit.tuning.tune import layers_to_try
    from seqedit.tuning.tune import tune as search

    if dry_run:
        tried = layers_to_try(loading.check(), chosen)
        files = [str(out / name) for name in ("preset.yaml", "tune.png", "trials.json")]
        plan = {
            "operation": "tune", "model": model, "method": method, "facts": len(facts), "layers": list(tried),
            "minutes": minutes, "files": files, **skipped_json(read.skipped),
        }  # fmt: skip
        said = (
            f"would try layers {','.join(map(str, tried))} of {model} for {method} on {len(facts)} facts, in about "
            f"{minutes:g} minutes"
        )
        tell_planned(plan, [said, *(f"would write {file}" for file in files)], json_)
        return
    edited = loading.load()
    with interrupts_told(lambda: f"finished trials are kept in {out}, and are not made again"):
        found = search(
            edited, facts, method, out, minutes=minutes, layers=chosen, text=text, max_tokens=max_tokens, steps=steps,
            seed=seed, tasks=tasks, report=lambda told: say(told, err=True),
        )  # fmt: skip
    found = replace(found, skipped=read.skipped)
    file = out / "preset.yaml"
    write_preset(file, found, edited)
    picture = write_plot(out / "tune.png", found)
    if found.failing is not None:
        say(f"warning: by these facts the model cannot be edited so: {found.failing}", err=True)
    if json_:
        print_json(
            {
                "preset": str(file),
                "plot": str(picture),
                "settings": dict(found.best.settings),
                **evidence(found, edited),
            }
        )
    else:
        for row in table(found):
            say(row)
        say(f"{file}: use it with --preset {file} (all trials: {picture})")
    if strict and found.failing is not None:
        raise CheckFailed("no setting found is good enough")
