"""Options that a verb takes from the ledger's configuration where neither command line nor environment gives them."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperCommand

from seqedit.cli.output import default_place
from seqedit.cli.terminal import say
from seqedit.errors import InputError

_TAKEN = "seqedit.defaults"
_SETTINGS = ("layers", "spread")
"""Single settings that are options of their own: `--set layers=5` gives the option too."""


def with_defaults(*same: str, **named: str) -> type[TyperCommand]:
    """The class of a verb that takes kept options.

    Args:
        same: Parameters that have the name of a kept option (with underscores for dashes).
        named: Parameter -> kept option, where they differ.
    """
    places = {**{name: name.replace("_", "-") for name in same}, **named}
    return type("ConfiguredCommand", (_Configured,), {"places": places})


EDITING = (
    "model", "method", "preset", "hparams", "layers", "spread", "second_moments", "text", "context_templates", "zsre",
    "seed", "dtype", "device",
)  # fmt: skip
"""Parameters of the verbs that edit, or plan to."""
COMPUTING = ("model", "second_moments", "text", "author", "dtype", "device")
"""Parameters of the verbs that compute entries anew, whose methods and settings are the entries' own."""


def chosen_method(method: str | None) -> str:
    """The method of an edit.

    Raises:
        InputError: none was given, nor set for the ledger.
    """
    if method is None:
        raise InputError("no method: give --method NAME, or set it once with `seqedit config method NAME`")
    return method


class _Configured(TyperCommand):
    places: ClassVar[dict[str, str]] = {}

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, after what was not given was taken from the ledger."""
        found = self._taken(ctx)
        for parameter in self.params:
            option = self._options.get(parameter.name or "")
            if option in found:
                ctx.params[parameter.name] = parameter.process_value(ctx, found[option])
        ctx.meta[_TAKEN] = found
        if found:
            from seqedit.defaults.filling import line_of

            say(line_of(found), err=True)
        return super().invoke(ctx)

    @property
    def _options(self) -> dict[str, str]:
        """Parameter -> kept option, of the parameters that the verb has."""
        return {p.name: self.places[p.name] for p in self.params if p.name in self.places}

    def _taken(self, ctx: Any) -> dict[str, Any]:
        from ledger.database.defaults import defaults_at

        kept = defaults_at(default_place(ctx.params.get("ledger")))
        if not kept:
            return {}
        from seqedit.defaults.filling import taken

        # Which click typer brings, and so the source's type, differs between its versions.
        sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in ctx.params}
        given = {option for name, option in self._options.items() if not sources.get(name, "").startswith("DEFAULT")}
        given |= {name for name in _SETTINGS for text in ctx.params.get("set_") or () if text.startswith(f"{name}=")}
        asked = set(self._options.values())
        if ctx.params.get("out") is not None and "requests" in ctx.params:  # an adapter alone has no entry
            asked -= {"gates", "on-gate", "tasks", "records", "drift-text", "num-fewshot", "fewshot", "task-documents"}
        return taken(kept, given, asked)


def taken_by(context: Any) -> dict[str, Any]:
    """What the running verb took from the ledger's configuration: option -> value."""
    found: dict[str, Any] = context.meta.get(_TAKEN, {})
    return found
