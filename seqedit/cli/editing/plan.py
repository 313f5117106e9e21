"""``seqedit plan``: what a file of facts will meet before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.defaults import EDITING, chosen_method, taken_by, with_defaults
from seqedit.cli.options import (
    ChatTemplateOption,
    DeviceOption,
    DtypeOption,
    HparamsOption,
    JoinOption,
    JsonOption,
    LayersOption,
    LedgerOption,
    MethodOption,
    PresetOption,
    SecondMomentsOption,
    SetOption,
    SkipUnusableOption,
    TemplateSeedOption,
    ZsreOption,
)
from seqedit.cli.output import default_place, facts_told, open_ledger, tokenizer_of
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say
from seqedit.errors import CheckFailed, InputError
from seqedit.text.plain_text import DEFAULT


@app.command(cls=with_defaults(*EDITING))
def plan(
    context: typer.Context,
    requests: Annotated[str, typer.Argument(help="Fact file, as for edit, or a Hub dataset.")],
    method: MethodOption = None,
    model: Annotated[
        str | None, typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama. [default: the ledger's]")
    ] = None,
    ledger: LedgerOption = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    layers: LayersOption = None,
    spread: Annotated[str | None, typer.Option(help="single, even, sqrt, boundary or replay.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Facts of a batch. [default: all in one]")] = None,
    order: Annotated[str, typer.Option(help="file, or clustered: near keys into one batch.")] = "file",
    danger: Annotated[
        float | None, typer.Option(help="Cosine from which a fact in force is endangered. [default: 0.3]")
    ] = None,
    second_moments: SecondMomentsOption = None,
    text: Annotated[str | None, typer.Option(help=f"Text to measure second moments on. [default: {DEFAULT}]")] = None,
    context_templates: Annotated[Path | None, typer.Option(help="JSON, a list of lists of strings.")] = None,
    zsre: ZsreOption = "mend",
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    limit: Annotated[int | None, typer.Option(help="Take only the first requests.")] = None,
    top: Annotated[int | None, typer.Option(help="Show only so many facts and pairs, those at risk first.")] = None,
    seed: TemplateSeedOption = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with 1 where facts contradict or one in force is endangered."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Say what facts will meet before they are written: near keys, contradictions, shares, load, a better order.

    One forward pass over the prompts; no target value is optimised, and neither model nor ledger changes.

    Example: seqedit plan facts.json --method memit --ledger my-ledger --batch-size 16 --order clustered
    """
    from ledger.database.places import has_ledger
    from seqedit.cli.editing.edit import read_templates, tell_settled
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import MethodChoice
    from seqedit.facts.requests import requests_of
    from seqedit.planning.order import ORDERS
    from seqedit.support.suggestions import did_you_mean
    from seqedit.text.framing import Framing

    method = chosen_method(method)
    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers, spread=spread)
    chosen = choice.partial(method)
    if order not in ORDERS:
        raise InputError(f"--order must be {' or '.join(ORDERS)}, got '{order}'{did_you_mean(order, ORDERS)}")
    for name, value in (("--batch-size", batch_size), ("--top", top), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if danger is not None and not 0 < danger <= 1:
        raise InputError(f"--danger must be above 0 and at most 1, got {danger:g}")
    given = getattr(context.get_parameter_source("ledger"), "name", "") != "DEFAULT"
    place = default_place(ledger)
    if not given and model is None and not has_ledger(place):
        raise InputError(
            "give --model MODEL, or --ledger PLACE (or SEQEDIT_LEDGER) to plan on the state of a ledger, which "
            "`seqedit init --model MODEL --ledger PLACE` makes"
        )
    read = facts_told(requests, limit=limit, zsre=zsre, skip_unusable=skip_unusable)
    facts = Framing(join, chat_template).of_requests(requests_of(read.records), tokenizer_of(model, place))
    templates = read_templates(context_templates) if context_templates else None
    loading = Loading(model, second_moments, text, templates, seed, dtype, device, ranks_of(context))
    at_ledger = given or model is None or "model" in taken_by(context)
    if at_ledger:
        open_ledger(place).close()  # that it is there

    from seqedit.editing.rule import settle
    from seqedit.planning.planner import DANGER

    wanted = DANGER if danger is None else danger
    if at_ledger:
        from seqedit.session.opening import open_session
        from seqedit.session.plan import plan_edits

        with open_ledger(place) as opened:
            session = open_session(opened, loading)
            tell_settled(settled := settle(chosen, session.editor))
            config = settled.config
            found = plan_edits(session, facts, method, config, batch_size=batch_size, order=order, danger=wanted)
    else:
        from seqedit.editing.one_batch import open_editor
        from seqedit.planning.planner import make_plan

        editor = open_editor(loading)
        tell_settled(settled := settle(chosen, editor))
        config = settled.config
        found = make_plan(editor, facts, method, config, batch_size=batch_size, order=order, seed=seed, danger=wanted)
    found = replace(found, skipped=read.skipped)
    if json_:
        print_json(found.to_dict())
    else:
        for line in found.lines(top):
            say(line)
    if strict and found.problems:
        more = f", and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
        raise CheckFailed(f"{found.problems[0]}{more}")
