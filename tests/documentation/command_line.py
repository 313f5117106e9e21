"""Writes the page of the command line from the command line itself.

``python -m tests.documentation.command_line --write`` writes ``docs/reference/command-line.md``; a test compares it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
HEAD = """# Command line

Written by `python -m tests.documentation.command_line --write` from the options' own help; a test compares the two.
Data go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 what was asked for does not hold, 2 wrong
usage or input, 3 the environment failed, 130 interrupted. A name that there is not is refused in one line, with the
one that was probably meant, before anything is imported that computes.

`seqedit --install-completion` lets the shell complete verbs, options, branches, entries, methods, presets and metrics;
`seqedit --show-completion` prints what it would install.
"""


def verbs() -> dict[str, Any]:
    """Name -> click command of every verb, sorted; a verb of a group by both names."""
    from seqedit.cli import main  # noqa: F401  (its imports register the verbs)
    from seqedit.cli.app import app

    return dict(sorted(_leaves(typer.main.get_command(app), "")))


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, sub in inner.items():
        yield from _leaves(sub, f"{path} {name}".strip())


def shown(command: Any) -> list[Any]:
    """Parameters of a verb that are meant for users."""
    return [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]


def names(parameter: Any) -> str:
    """All spellings of an option, or the name of an argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).upper()
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for verb, command in verbs().items():
        said, _, example = " ".join((command.help or "").split()).partition(" Example: ")
        parts += [f"## {verb}", "", _escaped(said), ""]
        if example:
            parts += [f"Example: `{example}`", ""]
        parameters = shown(command)
        if parameters:
            parts += ["| option | |", "|---|---|"]
            parts += [f"| `{names(p)}` | {_told(p)} |" for p in parameters]
            parts.append("")
    return "\n".join(parts)


def _told(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split())
    if parameter.required:
        text += " (required)"
    elif (
        parameter.default != "" and isinstance(parameter.default, str | int | float) and parameter.default is not False
    ):
        text += f" (default `{parameter.default}`)"
    return _escaped(text.strip())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
