"""Verbs of the main job: run, demo, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DryRunOption, JsonOption, LedgerOption, ResumeOption
from seqedit.cli.output import StepTable, open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="YAML file: model, facts, method, batch_size, evals, out, ...")],
    resume: ResumeOption = False,
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
    from seqedit.runs.config import read_run_config

    settings = read_run_config(config)
    if dry_run:
        from seqedit.runs.plans import planned_run, run_lines

        plan = planned_run(settings)
        if json_:
            print_json(plan)
        else:
            for line in run_lines(plan):
                say(line)
        return

    from evals.report.report import write_report
    from ledger.url_secrets import without_password
    from seqedit.runs.runner import run as run_batches
    from seqedit.runs.trackers import make_sinks

    sinks = make_sinks(log_to or ())
    table = StepTable(sys.stderr if json_ else sys.stdout)
    summary = run_batches(
        settings, resume=resume, on_baseline=table.baseline, on_step=table.step, callbacks=sinks,
        ranks=ranks_of(context),
    )  # fmt: skip
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
    json_: JsonOption = False,
) -> None:
    """Run the main job on the shipped demo world: EMMET and MEMIT, each a branch of one ledger.

    Example: seqedit demo --out out/demo
    """
    from seqedit.runs.demo import run_demo

    table = StepTable(sys.stderr if json_ else sys.stdout)
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
    json_: JsonOption = False,
) -> None:
    """Write one self-contained HTML page from what the ledger holds; beside it the plots and the data as files.

    Example: seqedit report emmet memit --ledger out/demo/ledger --out out/report
    """
    if summary is not None:
        if revs:
            raise InputError("--summary is a run by itself; give either it or revisions of a ledger")
        data = _read_json(summary)
    else:
        from seqedit.scoring.summary import build_summary

        with open_ledger(ledger) as opened:
            runs = {rev: build_summary(opened, rev, title=title) for rev in revs or ["HEAD"]}
        data = runs if len(runs) > 1 else next(iter(runs.values()))

    from evals.report.comparison import ComparisonRow
    from evals.report.report import write_report

    rows = []
    if comparison is not None:
        try:
            rows = [ComparisonRow.from_dict(row) for row in _read_json(comparison)["rows"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"{comparison}: not what `seqedit compare` writes ({error!r})") from error
    # Of several runs in one summary, each is shown; a ledger's branch may be called "runs".
    page = write_report((data.get("runs") or data) if summary is not None else data, out, comparison=rows)
    if json_:
        print_json({"report": str(page)})
    else:
        say(str(page))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
