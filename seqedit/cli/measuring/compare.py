"""``seqedit compare``: several methods on the same facts, as the table of the papers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import DryRunOption, JsonOption, ResumeOption
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say

if TYPE_CHECKING:
    from seqedit.editing.rule import Settled


@app.command()
def compare(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="YAML file: a run's fields, and methods: {label: {settings}, ...}.")],
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Run several methods on the same facts and write their table and plot.

    Example: seqedit compare examples/demo-compare.yaml
    """
    from seqedit.comparing.compare_config import read_compare_config
    from seqedit.runs.inputs import check_inputs

    settings = read_compare_config(config)
    for one in settings.runs.values():
        check_inputs(replace(one, tasks={**one.tasks, **settings.tasks}))
    if dry_run:
        from seqedit.comparing.compare import compared_tasks
        from seqedit.runs.plans import planned_run, run_lines
        from seqedit.runs.preparation import prepare

        compared_tasks(settings)
        plans: dict[str, dict[str, Any]] = {}
        edited = None
        for label, one in settings.runs.items():
            ready = prepare(one, resume=resume, edited=edited, ranks=ranks_of(context), rehearse=True)
            edited, plans[label] = ready.edited, planned_run(one, ready)
        if json_:
            print_json({label: {**plan, "dry_run": True} for label, plan in plans.items()})
        else:
            for position, (label, plan) in enumerate(plans.items()):
                for line in [*([""] if position else []), label, *run_lines(plan)]:
                    say(line)
        return

    from evals.report.comparison import columns, digits_of, markdown, missing_notes, notes_text
    from seqedit.comparing.compare import compare as compare_methods
    from seqedit.comparing.compare import read_notes

    def row_done(row: object) -> None:
        from evals.report.comparison import ComparisonRow

        assert isinstance(row, ComparisonRow)
        texts = [f"{name} {row.cells[name].text(digits_of(name))}" for name in columns([row])]
        say(f"{row.label}: {'  '.join(texts)}{'  ' + row.note if row.note else ''}", err=True)

    def settled(label: str, found: Settled) -> None:
        for line in found.notes:
            say(f"{label}: {line}", err=True)

    finished: list[str] = []

    def row_kept(row: object) -> None:
        row_done(row)
        finished.append(str(getattr(row, "label", "")))

    def kept() -> str:
        rows = f"rows finished: {', '.join(finished)}" if finished else "no row was finished"
        return f"{rows}; every finished step is kept"

    with interrupts_told(kept, ("--resume",)):
        rows = compare_methods(settings, resume=resume, on_row=row_kept, ranks=ranks_of(context), told=settled)
    if json_:
        print_json(
            {"title": settings.title, "rows": [row.to_dict() for row in rows], "notes": read_notes(settings.out)}
        )
        return
    notes = {**read_notes(settings.out), **missing_notes(rows)}
    for line in (markdown(rows) + notes_text(notes)).splitlines():
        say(line)
    say()
    say(f"tables and plot: {settings.out / 'comparison.md'} (.csv, .tex, .json, .png)")
