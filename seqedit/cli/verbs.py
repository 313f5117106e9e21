"""Which module each verb is in: a verb imports its own module and no other, and ``--help`` lists them by what they do.

A new verb needs its line here; a test compares the table with the modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from seqedit.cli.completion import attach
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

PANELS: Mapping[str, Mapping[str, str]] = {
    "History": {
        "log": "history.history",
        "show": "history.history",
        "diff": "history.questions",
        "blame": "history.questions",
        "bisect": "history.questions",
        "branch": "history.branches",
        "checkout": "history.branches",
        "revert": "history.history",
        "swap": "history.operations",
        "merge": "history.operations",
        "rebase": "history.operations",
        "reorder": "history.operations",
        "reset": "history.branches",
        "undo": "history.branches",
        "reflog": "history.branches",
        "status": "history.status",
        "tag": "history.tag",
        "cherry-pick": "history.pick",
    },
    "Editing": {
        "demo": "measuring.runs",
        "init": "editing.begin",
        "edit": "editing.edit",
        "add": "editing.begin",
        "config": "editing.config",
        "run": "measuring.runs",
        "plan": "editing.plan",
        "tune": "editing.tune",
        "stats": "editing.stats",
        "locate": "editing.locate",
        "train-mend": "editing.mend",
    },
    "Measuring": {
        "eval": "measuring.evaluate",
        "score": "measuring.score",
        "compare": "measuring.compare",
        "benchmark": "measuring.benchmark",
        "report": "measuring.runs",
        "tasks": "measuring.tasks",
    },
    "Shipping": {
        "export": "shipping.ship",
        "import": "shipping.ship",
        "push": "shipping.hub",
        "pull": "shipping.hub",
    },
    "Upkeep": {
        "verify": "history.history",
        "audit": "shipping.audit",
        "gc": "shipping.upkeep",
        "sign": "shipping.upkeep",
        "signers": "shipping.upkeep",
    },
}
"""What verbs are for -> verb -> its module in this package."""

MODULES: Mapping[str, str] = {verb: module for verbs in PANELS.values() for verb, module in verbs.items()}
"""Verb -> its module in this package."""


class VerbGroup(TyperGroup):
    """The root of the command tree: a verb's module is imported when the verb is asked for."""

    def __init__(self, **options: Any) -> None:
        self._made: dict[str, Any] = {}
        super().__init__(**options)

    @property
    def commands(self) -> Any:
        """All verbs, each with its module imported: for whoever lists them."""
        return {verb: _found for verb in MODULES if (_found := self._command(verb)) is not None}

    @commands.setter
    def commands(self, value: Any) -> None:
        """What typer knows of verbs whose modules happen to be imported says nothing that the table does not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs' names, those that belong together beside each other."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb; None where there is none of that name."""
        return self._command(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is asked for.

        Raises:
            InputError: there is none of that name.
        """
        name = args[0]
        if name not in MODULES and not name.startswith("-") and not ctx.resilient_parsing:
            raise InputError(f"unknown verb '{name}'{did_you_mean(name, MODULES)} (`seqedit --help` lists them)")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs by what they are for, each with the whole first sentence of its help."""
        width = max(map(len, MODULES))
        for panel, verbs in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(verb.ljust(width), first_sentence(_callback(verb).__doc__)) for verb in verbs])

    def _command(self, verb: str) -> Any:
        if verb not in MODULES:
            return None
        if verb not in self._made:
            made = typer.main.get_command_from_info(_info(verb), pretty_exceptions_short=False, rich_markup_mode=None)
            attach(made)
            self._made[verb] = made
        return self._made[verb]


def first_sentence(text: str | None) -> str:
    """The first sentence of a verb's help, whole and on one line."""
    paragraph = " ".join((text or "").strip().partition("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.strip()


def _info(verb: str) -> Any:
    from seqedit.cli.app import app

    import_module(f"seqedit.cli.{MODULES[verb]}")
    return next(info for info in app.registered_commands if _name(info) == verb)


def _callback(verb: str) -> Any:
    return _info(verb).callback


def _name(info: Any) -> str:
    return str(info.name or typer.main.get_command_name(info.callback.__name__))


def registered() -> Sequence[str]:
    """Verbs whose modules are imported, by the names that they registered."""
    from seqedit.cli.app import app

    return [_name(info) for info in app.registered_commands]
