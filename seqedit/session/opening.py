"""A session on a ledger's own base model, for verbs that compute or measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ledger import Ledger
from seqedit.editing.loading import Loading
from seqedit.errors import InputError

if TYPE_CHECKING:
    from seqedit.session.session import Session


def open_session(ledger: Ledger, loading: Loading | None = None) -> Session:
    """Load a ledger's base model and bring it to HEAD's state.

    Args:
        ledger: The ledger.
        loading: How; by default the model is loaded from where the ledger's base model was.

    Raises:
        InputError: the model is not the ledger's base model.
        EnvironmentFailure: the model cannot be loaded.
    """
    from seqedit.session.session import Session

    how = loading or Loading()
    edited = how.load(ledger.base_model.name)
    if edited.base_model.fingerprint != ledger.base_model.fingerprint:
        raise InputError(
            f"the ledger's base model is '{ledger.base_model.name}' (fingerprint "
            f"{ledger.base_model.fingerprint[:12]}), '{edited.base_model.name}' has "
            f"{edited.base_model.fingerprint[:12]}; give the right one with --model"
        )
    return Session(
        edited, ledger, how.moments(edited),
        context_templates=how.context_templates, seed=how.seed, ranks=how.ranks,
    )  # fmt: skip
