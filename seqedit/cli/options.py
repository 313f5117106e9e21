"""Options that several verbs share, each declared once, so that it is called and works the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger", envvar="SEQEDIT_LEDGER", help="Ledger directory or database URL. [default: ./ledger, or .]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue; what is finished is kept.")]
RevisionArgument = Annotated[str, typer.Argument(help="Entry id, unique prefix, branch, HEAD or HEAD~2.")]
MessageOption = Annotated[str, typer.Option("-m", "--message", help="Message of the new entry.")]
OwnMessageOption = Annotated[
    str | None, typer.Option("-m", "--message", help="Message of the new entry. [default: says what was done]")
]
MoveMessageOption = Annotated[
    str | None, typer.Option("-m", "--message", "--reason", help="Line of the reflog. [default: says what was done]")
]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the new entry, and shown by blame.")]
AuthorOption = Annotated[str, typer.Option(help="Author of the new entry.")]

ModelOption = Annotated[str, typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama.")]
MovedModelOption = Annotated[
    str | None, typer.Option("--model", help="The base model, where it has moved. [default: the ledger's]")
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...; auto: over all.")]

MethodOption = Annotated[
    str | None,
    typer.Option(help="Editing method: rome, emmet, memit, pmet, alphaedit, ... [default: the ledger's configuration]"),
]
PresetOption = Annotated[str | None, typer.Option(help="Settings to start from: a shipped name, or a .yaml file.")]
HparamsOption = Annotated[Path | None, typer.Option(help="Hyperparameter file (ours, MEMIT's or EasyEdit's).")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field.")]
LayersOption = Annotated[str | None, typer.Option(help="Layers to edit, e.g. 1,2,3.")]
SecondMomentsOption = Annotated[
    Path | None, typer.Option("--second-moments", help="Safetensors, one matrix per module name.")
]
TemplateSeedOption = Annotated[int, typer.Option(help="Seed of the context templates.")]
ZsreOption = Annotated[
    str, typer.Option(help="What zsRE records teach: mend / alt (their 'alt') or memit / answers (the right answer).")
]
JoinOption = Annotated[
    str | None,
    typer.Option(
        "--join",
        help="What stands between a prompt and its answer: auto, space or none. [default: as the facts were edited, "
        "else auto]",
    ),
]
ChatTemplateOption = Annotated[
    bool, typer.Option("--chat-template", help="Prompts are the user's turn of the model's chat template.")
]
NumFewshotOption = Annotated[
    int | None,
    typer.Option("--num-fewshot", help="Examples before every document of the tasks with a file (lm-eval's few-shot)."),
]
FewshotOption = Annotated[
    list[str] | None,
    typer.Option("--fewshot", help="NAME=FILE.jsonl (GROUP=FOLDER): where a task's examples come from; repeatable."),
]
AdapterOption = Annotated[list[Path] | None, typer.Option(help="Adapter directory; may be repeated.")]
GateOption = Annotated[
    list[str] | None,
    typer.Option("--gate", help="A limit, e.g. 'cola.mcc: max_drop 0.05 at 95 %'; repeatable."),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", "--tasks", help="lm-eval task, NAME=FILE.jsonl, or GROUP=FOLDER of such files; repeatable."),
]
TaskDocumentsOption = Annotated[int | None, typer.Option(help="Take only the first documents of each task.")]
SkipUnusableOption = Annotated[
    bool, typer.Option("--skip-unusable", help="Leave out records that cannot be used, and say which and why.")
]
FactRecordsOption = Annotated[str | None, typer.Option(help="Records with paraphrases and neighbours of the facts.")]
MeasureOption = Annotated[bool, typer.Option(help="Try the adapter on its base model; measure a truncation.")]
