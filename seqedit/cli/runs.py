"""Verbs of the main job: run, demo, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.common import JsonOption, LedgerOption, StepTable, open_ledger, print_json
from seqedit.errors import InputError


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file: model, facts, method, batch_size, evals, out, ...")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue at the last finished step.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")] = False,
    json_: JsonOption = False,
) -> None:
    """Run the main job: edit batch after batch, each an entry in the ledger, each step scored.

    Example: seqedit run examples/gpt2-xl-counterfact.yaml
    """
    from seqedit.run_config import read_run_config

    settings = read_run_config(config)
    if dry_run:
        from seqedit.plans import planned_run, run_lines

        plan = planned_run(settings)
        if json_:
            print_json(plan)
        else:
            typer.echo("\n".join(run_lines(plan)))
        return

    from evals.report import write_report
    from seqedit.runner import run as run_batches

    table = StepTable(sys.stderr if json_ else sys.stdout)
    summary = run_batches(settings, resume=resume, on_baseline=table.baseline, on_step=table.step)
    page = write_report(summary, settings.out)
    if json_:
        print_json(summary)
    else:
        typer.echo(f"ledger {settings.ledger}\nsummary {settings.out / 'summary.json'}\nreport {page}")
    if summary["stopped"] is not None:
        typer.echo(f"stopped by a gate: {summary['stopped']}", err=True)
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for ledger, summary, report and plots.")] = Path("out/demo"),
    model: Annotated[str, typer.Option(help="demo-llama or demo-gpt2.")] = "demo-llama",
    steps: Annotated[int, typer.Option(help="Batches per method.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Edits per batch.")] = 16,
    resume: Annotated[bool, typer.Option("--resume", help="Continue at the last finished step.")] = False,
    json_: JsonOption = False,
) -> None:
    """Run the main job on the shipped demo world: EMMET and MEMIT, each a branch of one ledger.

    Example: seqedit demo --out out/demo
    """
    from seqedit.demo_run import run_demo

    table = StepTable(sys.stderr if json_ else sys.stdout)
    summary, page = run_demo(out, table, model=model, steps=steps, batch_size=batch_size, resume=resume)
    if json_:
        print_json(summary)
    else:
        typer.echo(
            f"\nledger  {out / 'ledger'}   (try: seqedit log --ledger {out / 'ledger'})\n"
            f"summary {out / 'summary.json'}\nreport  {page}"
        )


@app.command()
def report(
    rev: Annotated[str, typer.Argument(help="State whose history is reported.")] = "HEAD",
    ledger: LedgerOption = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the plots.")] = Path("out/report"),
    summary: Annotated[Path | None, typer.Option(help="A summary.json to report instead of a ledger.")] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Sequential editing",
) -> None:
    """Write one self-contained HTML page and the plots as PNG from what the ledger holds.

    Example: seqedit report --ledger out/demo/ledger --out out/report
    """
    if summary is not None:
        try:
            data = json.loads(summary.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{summary}: not readable as JSON ({error})") from error
    else:
        from seqedit.summary import build_summary

        with open_ledger(ledger) as opened:
            data = build_summary(opened, rev, title=title)

    from evals.report import write_report

    typer.echo(str(write_report(data.get("runs") or data, out)))
