"""Verbs of the main job: run, demo, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_revisions
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import DryRunOption, JsonOption, LedgerOption, ResumeOption
from seqedit.cli.output import StepTable, open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="YAML file: model, facts, method, batch_size, evals, out, ...")],
    resume: ResumeOption = False,
    new_files: Annotated[
        bool, typer.Option("--new-files", help="Edit only the files of 'facts' that are not in the history yet.")
    ] = False,
    dry_run: DryRunOption = False,
    log_to: Annotated[
        list[str] | None,
        typer.Option("--log-to", help="tensorboard, wandb or trackio, each with :PROJECT if wanted; repeatable."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run the main job: edit batch after batch, each an entry in the ledger, each step scored.

    Example: seqedit run examples/gpt2-xl-counterfact.yaml
    """
    from seqedit.defaults.filling import line_of
    from seqedit.runs.config import read_run_config
    from seqedit.runs.inputs import check_inputs
    from seqedit.runs.trackers import make_sinks

    settings = read_run_config(config)
    if settings.defaults:
        say(line_of(settings.defaults), err=True)
    if new_files and settings.files is None and "://" in settings.facts:
        raise InputError(f"--new-files is for files of facts, not for {settings.facts}")
    check_inputs(settings, new_files=new_files)
    sinks = make_sinks(log_to or ())  # which begin nothing before the run does
    ranks = ranks_of(context)
    if dry_run:
        from seqedit.runs.plans import planned_run, run_lines
        from seqedit.runs.preparation import prepare

        ready = prepare(settings, resume=resume, new_files=new_files, ranks=ranks, rehearse=True)
        plan = planned_run(settings, ready)
        plan |= {"defaults": dict(settings.defaults)} if settings.defaults else {}
        tell_planned(plan, run_lines(plan), json_)
        return

    from evals.report.report import write_report
    from ledger.url_secrets import without_password
    from seqedit.cli.editing.edit import tell_settled
    from seqedit.cli.measuring.beginning import Beginning
    from seqedit.runs.runner import run as run_batches

    table = StepTable(sys.stderr if json_ else sys.stdout)
    summary = run_batches(
        settings, resume=resume, new_files=new_files, on_baseline=table.baseline, on_step=table.step,
        callbacks=[*sinks, Beginning(table)], ranks=ranks, told=tell_settled,
    )  # fmt: skip
    if "baseline" not in summary or not table.began:
        if json_:
            print_json({**summary, "new": False})
        else:
            say("nothing new")
        return
    page = write_report(summary, settings.out)
    if json_:
        print_json(summary)
    else:
        say(f"ledger {without_password(settings.ledger)}")
        say(f"summary {settings.out / 'summary.json'}")
        say(f"report {page}")
    if summary["stopped"] is not None:
        say(f"stopped by a gate: {summary['stopped']}", err=True)
        raise typer.Exit(1)


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for ledger, summary, report and plots.")] = Path("out/demo"),
    model: Annotated[str, typer.Option(help="demo-llama or demo-gpt2.")] = "demo-llama",
    steps: Annotated[int, typer.Option(help="Batches per method.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Edits per batch.")] = 16,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Run the main job on the shipped demo world: EMMET and MEMIT, each a branch of one ledger.

    Example: seqedit demo --out out/demo
    """
    from seqedit.models.names import check_demo

    check_demo(model)
    for name, value in (("--steps", steps), ("--batch-size", batch_size)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")

    from seqedit.runs.demo import plan_demo, run_demo

    if dry_run:
        plan = plan_demo(out, model=model, steps=steps, batch_size=batch_size, resume=resume)
        said = [
            f"would run {steps} batches of {batch_size} on {model} by {' and by '.join(plan['methods'])}, scored on "
            f"{', '.join(plan['tasks'])}",
            *(f"would write {file}" for file in plan["files"]),
        ]
        tell_planned(plan, said, json_)
        return
    table = StepTable(sys.stderr if json_ else sys.stdout)
    with interrupts_told(lambda: "every finished step is kept", ("--resume",)):
        summary, page = run_demo(
            out, table, model=model, steps=steps, batch_size=batch_size, resume=resume, ranks=ranks_of(context)
        )
    if json_:
        print_json(summary)
    else:
        say()
        say(f"ledger  {out / 'ledger'}   (try: seqedit log --ledger {out / 'ledger'})")
        say(f"summary {out / 'summary.json'}")
        say(f"report  {page}")


@app.command()
def report(
    revs: Annotated[
        list[str] | None, typer.Argument(help="State whose history is reported (several are compared). [default: HEAD]")
    ] = None,
    ledger: LedgerOption = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the plots.")] = Path("out/report"),
    summary: Annotated[Path | None, typer.Option(help="A summary.json to report instead of a ledger.")] = None,
    comparison: Annotated[
        Path | None, typer.Option(help="A comparison.json of `seqedit compare`, shown on the page too.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Sequential editing",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Write one self-contained HTML page from what the ledger holds; beside it the plots and the data as files.

    Example: seqedit report emmet memit --ledger out/demo/ledger --out out/report
    """
    compared = None if comparison is None else _read_json(comparison)
    if summary is not None:
        if revs:
            raise InputError("--summary is a run by itself; give either it or revisions of a ledger")
        data = _read_json(summary)
        if not isinstance(data, dict):
            raise InputError(f"{summary}: not the summary of a run")
    else:
        with open_ledger(ledger) as opened:
            check_revisions(opened, revs or ["HEAD"])
            from seqedit.scoring.losses import tell_losses
            from seqedit.scoring.summary import build_summary

            runs = {rev: tell_losses(opened, rev, build_summary(opened, rev, title=title)) for rev in revs or ["HEAD"]}
        data = runs if len(runs) > 1 else next(iter(runs.values()))

    from evals.report.comparison import ComparisonRow
    from evals.report.report import check_report, write_report

    rows = []
    if compared is not None:
        try:
            rows = [ComparisonRow.from_dict(row) for row in compared["rows"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"{comparison}: not what `seqedit compare` writes ({error!r})") from error
    # Of several runs in one summary, each is shown; a ledger's branch may be called "runs".
    shown = (data.get("runs") or data) if summary is not None else data
    if dry_run:
        names = list(check_report(shown, out))
        plan = {"operation": "report", "runs": names, "report": str(out / "report.html"), "comparison": len(rows)}
        where = f"{out / 'report.html'}, its plots beside it and its tables in {out / 'data'}"
        tell_planned(plan, [f"would write {where}; runs: {', '.join(names)}"], json_)
        return
    page = write_report(shown, out, comparison=rows)
    if json_:
        print_json({"report": str(page)})
    else:
        say(str(page))


def _read_json(path: Path) -> Any:
    from seqedit.support.reading import read_json

    return read_json(path)
