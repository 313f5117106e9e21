"""``seqedit compare``: several methods on the same facts, as the table of the papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DryRunOption, JsonOption, ResumeOption
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say


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
    from seqedit.runs.compare_config import read_compare_config

    settings = read_compare_config(config)
    if dry_run:
        from seqedit.runs.plans import planned_run, run_lines

        plans = {label: planned_run(one) for label, one in settings.runs.items()}
        if json_:
            print_json(plans)
        else:
            for position, (label, plan) in enumerate(plans.items()):
                for line in [*([""] if position else []), label, *run_lines(plan)]:
                    say(line)
        return

    from evals.report.comparison import columns, markdown, notes_text
    from seqedit.runs.compare import compare as compare_methods
    from seqedit.runs.compare import read_notes

    def row_done(row: object) -> None:
        from evals.report.comparison import ComparisonRow

        assert isinstance(row, ComparisonRow)
        texts = [f"{name} {row.cells[name].text(1 if '.' not in name else 3)}" for name in columns([row])]
        say(f"{row.label}: {'  '.join(texts)}{'  ' + row.note if row.note else ''}", err=True)

    rows = compare_methods(settings, resume=resume, on_row=row_done, ranks=ranks_of(context))
    if json_:
        print_json(
            {"title": settings.title, "rows": [row.to_dict() for row in rows], "notes": read_notes(settings.out)}
        )
        return
    for line in (markdown(rows) + notes_text(read_notes(settings.out))).splitlines():
        say(line)
    say()
    say(f"tables and plot: {settings.out / 'comparison.md'} (.csv, .tex, .json, .png)")
