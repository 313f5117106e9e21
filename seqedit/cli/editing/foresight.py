"""What ``seqedit edit --dry-run`` says with a model at hand: the essentials of the batch's plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger import Ledger
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import Given
    from seqedit.facts.requests import Request
    from seqedit.planning.plan import Plan


def foreseen(
    batch: Sequence[Request], config: Given, loading: Loading, ledger: Ledger | None
) -> tuple[Plan | None, list[str]]:
    """The plan of a batch, on a ledger's state where there is one.

    Args:
        batch: The requests.
        config: The method and what was given of its settings.
        loading: The model.
        ledger: The ledger; only read.

    Returns:
        The plan and what is to be told of the settings; None and nothing where no model was named, or the method
        solves for no keys.
    """
    from seqedit.editing.rule import settle
    from seqedit.methods import get_method
    from seqedit.methods.config import ClosedFormConfig

    if loading.model is None or not issubclass(get_method(config.method).config, ClosedFormConfig):
        return None, []
    if ledger is None:
        from seqedit.editing.one_batch import open_editor
        from seqedit.planning.planner import make_plan

        editor = open_editor(loading)
        settled = settle(config, editor)
        editor.edited.parts.check_layers(settled.config.layers)
        return make_plan(editor, batch, config.method, settled.config, seed=loading.seed), list(settled.notes)
    from seqedit.session.opening import open_session
    from seqedit.session.plan import plan_edits

    session = open_session(ledger, loading)
    settled = settle(config, session.editor)
    return plan_edits(session, batch, config.method, settled.config), list(settled.notes)
