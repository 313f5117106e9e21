"""What verbs look at before they import anything that computes: a slip is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqedit.errors import InputError

if TYPE_CHECKING:
    from ledger import Ledger
    from seqedit.editing.settings import MethodChoice


def check_model_options(model: str, dtype: str = "auto", device: str | None = None) -> None:
    """Refuse a model, weight type or device that there cannot be.

    Raises:
        InputError: names it, and what was probably meant.
    """
    from seqedit.models.names import check_device, check_dtype, check_model

    check_model(model)
    check_dtype(dtype)
    check_device(device)


def check_adapters(directories: Iterable[Path]) -> None:
    """Refuse directories that are no adapters'.

    Raises:
        InputError: names the file that is missing or malformed.
    """
    from seqedit.adapters.file_names import check_directory

    for directory in directories:
        check_directory(directory)


def check_revisions(opened: Ledger, revisions: Iterable[str]) -> None:
    """Refuse revisions that name no entry.

    Raises:
        InputError: names the revision, and what was probably meant.
    """
    for revision in revisions:
        opened.resolve(revision)


def check_repository(repository: str) -> None:
    """Refuse what cannot be a Hub repository's id.

    Raises:
        InputError: says what one looks like.
    """
    from seqedit.adapters.card import is_hub_id

    if not is_hub_id(repository):
        raise InputError(f"'{repository}' is no repository id; it looks like me/edits")


def check_choice(choice: MethodChoice, opened: Ledger, entries: Sequence[str]) -> None:
    """Refuse a method, preset or setting that there is not, for facts that are edited anew.

    Args:
        choice: What was chosen; without a method it is that of the first entry.
        opened: The ledger.
        entries: The entries.

    Raises:
        InputError: names what does not fit.
    """
    from seqedit.session.entries import method_of

    if not choice.given or not entries:
        return
    name = choice.method
    if name is None:
        try:
            name, _ = method_of(opened.entry(entries[0]))
        except InputError:  # made by no method: told where its settings are asked for
            return
    choice.partial(name)
