"""Wrong usage in one line: what is wrong, what was probably meant, and where the right words are listed."""

from __future__ import annotations

import re
from typing import Any

from seqedit.cli.terminal import say
from seqedit.support.suggestions import did_you_mean


def is_usage_error(error: Exception) -> bool:
    """Whether an error is click's; which click it comes from (typer brings its own) differs between its versions."""
    return hasattr(error, "show") and hasattr(error, "format_message")


def tell_usage_error(error: Any) -> int:
    """Say on stderr what is wrong; without a verb, the help. The exit code is returned."""
    if type(error).__name__ == "NoArgsIsHelpError":  # no mistake of a name: the question what there is
        for line in error.ctx.get_help().splitlines():
            say(line, err=True)
        return 2
    say("seqedit: " + usage_line(error), err=True)
    return 2


def usage_line(error: Any) -> str:
    """One line for one of click's usage errors."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if option and type(error).__name__ == "NoSuchOption":
        text = f"no such option: {option}{did_you_mean(option, _options(context))}"
    else:
        text = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
        text = text[:1].lower() + text[1:]
        given = re.search(r"'([^']*)' is not one of (.+)", text)
        if given is not None:
            text += did_you_mean(given[1], re.findall(r"'([^']*)'", given[2]))
    where = context.command_path if context is not None else "seqedit"
    return f"{text} (`{where} --help` lists what there is)"


def _options(context: Any) -> list[str]:
    if context is None:
        return []
    parameters = context.command.get_params(context)
    return [name for p in parameters for name in (*p.opts, *p.secondary_opts) if name.startswith("-")]
