"""``seqedit config``: options that are set once for a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DryRunOption, JsonOption, LedgerOption
from seqedit.cli.output import open_ledger
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError

if TYPE_CHECKING:
    from ledger import Ledger

_WORDS = ("list", "get", "set", "unset")


@app.command()
def config(
    key: Annotated[
        str | None, typer.Argument(help="Option, e.g. method. [default: list all that are set]", metavar="[KEY]")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Argument(help="What to set it to; several for gates and tasks.", metavar="[VALUE]...")
    ] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Take the option out.")] = False,
    add: Annotated[bool, typer.Option("--add", help="One more value, of gates, tasks or fewshot.")] = False,
    ledger: LedgerOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Set an option once for a ledger; edit, run, score and the others take it where it is not given.

    Command line and environment come first, then a run's file, then what is set here, then the package's default.
    `config list`, `get KEY`, `set KEY VALUE` and `unset KEY` say the same in words. Keys: model, method, preset,
    hparams, layers, spread, second-moments, text, context-templates, zsre, gates, on-gate, tasks, num-fewshot, fewshot,
    task-documents, records, drift-text, author, seed, dtype, device, signers.

    Examples: seqedit config method emmet
              seqedit config gates "earlier.ES: min 90" "cola.mcc: max_drop 0.05 at 95 %"
              seqedit config --unset preset
    """
    from seqedit.defaults.keys import named

    given = list(values or ())
    if key in _WORDS:
        word, key, given = key, given[0] if given else None, given[1:]
        unset = unset or word == "unset"
        if (word == "list") != (key is None):
            raise InputError(f"config {word} takes {'no key' if word == 'list' else 'a key'}")
        if word == "set" and not given:
            raise InputError(f"config set {key} needs a value")
        if word == "get" and given:
            raise InputError("config get takes a key and no value")
    if key is None:
        if unset or add or dry_run:
            raise InputError("a key is needed, e.g. `seqedit config method emmet`; see --help for all")
        with open_ledger(ledger) as opened:
            _list(_kept(opened), json_)
        return
    name = named(key)
    if unset and (given or add):
        raise InputError(f"--unset takes the whole of '{name}' out: give no value")
    if not given and add:
        raise InputError(f"--add needs a value for '{name}'")
    with open_ledger(ledger) as opened:
        if given or unset:
            _change(opened, name, None if unset else given, add=add, dry_run=dry_run, json_=json_)
        else:
            _get(_kept(opened), name, json_)


def _kept(opened: Ledger) -> dict[str, Any]:
    """All that is kept, signers included."""
    signers = opened.kept_signers()
    return {**opened.defaults(), **({} if signers is None else {"signers": [*signers]})}


def _list(kept: dict[str, Any], json_: bool) -> None:
    if json_:
        print_json(kept)
        return
    for name, value in kept.items():
        for line in value if isinstance(value, list) else [value]:
            say(f"{name}={line}")


def _get(kept: dict[str, Any], name: str, json_: bool) -> None:
    if json_:
        print_json({name: kept.get(name)})
    for line in [] if json_ or name not in kept else kept[name] if isinstance(kept[name], list) else [kept[name]]:
        say(line)
    if name not in kept:
        say(f"'{name}' is not set", err=True)
        raise typer.Exit(1)


def _change(opened: Ledger, name: str, given: list[str] | None, *, add: bool, dry_run: bool, json_: bool) -> None:
    from seqedit.defaults.keys import KEYS, SIGNERS, checked

    before = _kept(opened).get(name)
    value: Any
    if name == SIGNERS:
        value = _signers(given)
        if add:
            raise InputError("signers are set as a whole, from a file")
    elif add and not KEYS[name].many:
        raise InputError(f"'{name}' takes one value; set it without --add")
    else:
        value = None if given is None else checked(name, given)
    if given is None and before is None:
        say(f"'{name}' is not set", err=True)
        raise typer.Exit(1)
    if not dry_run:
        if name == SIGNERS:
            opened.keep_signers(value)
        elif add:
            value = opened.set_defaults({}, {name: value})[name]
        else:
            opened.set_defaults({name: value})
    shown = [*value] if isinstance(value, dict) else value
    if json_:
        made = {"key": name, "value": shown, "before": before, "done": not dry_run}
        print_json({**made, **({"dry_run": True} if dry_run else {})})
        return
    verb = "would set" if dry_run else "set"
    if shown is None:
        say(f"{'would unset' if dry_run else 'unset'} {name}", err=True)
    for line in [] if shown is None else shown if isinstance(shown, list) else [shown]:
        say(f"{verb} {name}={line}", err=True)


def _signers(given: list[str] | None) -> dict[str, str] | None:
    """The keys of a signers file."""
    if given is None:
        return None
    if len(given) != 1:
        raise InputError("signers takes one file of public keys")
    from ledger.upkeep.signers import read_signers

    return read_signers(given[0])
