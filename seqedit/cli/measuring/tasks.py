"""``seqedit tasks``: the lm-eval tasks that ship with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import JsonOption
from seqedit.cli.terminal import print_json, say


@app.command()
def tasks(
    list_: Annotated[bool, typer.Option("--list", help="Print the tasks instead of their folder.")] = False,
    json_: JsonOption = False,
) -> None:
    """Print the folder of the shipped lm-eval tasks, for lm_eval's --include_path.

    Example: SEQEDIT_RECORDS=facts.json lm_eval --include_path $(seqedit tasks) --tasks counterfact_efficacy
             --model hf --model_args pretrained=MODEL,peft=ADAPTER
    """
    from evals.tasks.library import shipped_tasks, task_folder

    if json_:
        known = [
            {"name": t.name, "metrics": list(t.metrics), "about": t.about, "file": str(t.path)}
            for t in shipped_tasks().values()
        ]
        print_json({"folder": str(task_folder()), "tasks": known})
    elif list_:
        for task in shipped_tasks().values():
            say(f"{task.name:<24} {','.join(task.metrics):<30} {task.about}")
    else:
        say(str(task_folder()))
