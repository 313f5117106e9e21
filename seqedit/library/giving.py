"""A session's state as something to give away: a model, an adapter, a bundle, a Hub repository, a report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ledger import Entry
from seqedit.errors import InputError
from seqedit.library.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seqedit.library.inputs import Facts
    from seqedit.shipping.decoys import DecoySettings
    from seqedit.shipping.export import Exported
    from seqedit.shipping.hub import Pushed

_LOG = logging.getLogger(__name__)
Format = Literal["peft", "merged", "bundle"]


class Giving(History):
    """A session with the ways out as methods."""

    def save_pretrained(
        self, directory: str | Path, *, rev: Entry | str = "HEAD", base_name: str | None = None
    ) -> None:
        """Write a state as a whole model, with tokenizer and card, that transformers loads.

        Args:
            directory: Must not exist, or be empty.
            rev: The state.
            base_name: What the card calls the base model, where it was loaded from a path.

        Raises:
            InputError: the directory is not empty.
            EnvironmentFailure: the disk failed.
        """
        from seqedit.shipping.export import write_merged

        state = self._to_give(rev)
        try:
            write_merged(self.ledger, state, self.edited, directory, base_name=base_name)
        finally:
            self.restore()

    def export(
        self,
        out: str | Path,
        format: Format = "peft",  # the command line's word
        *,
        rev: Entry | str = "HEAD",
        single: bool = False,
        rank: int | None = None,
        records: Facts | None = None,
        scores: bool = True,
        base_name: str | None = None,
        camouflage: int | DecoySettings | None = None,
        decoys: Sequence[str] | None = None,
    ) -> Path:
        """Write a state, or one entry, as what others load.

        Args:
            out: Directory that must not exist or be empty; for a bundle the file.
            format: ``peft``: an adapter for stock PEFT; ``merged``: a whole model; ``bundle``: the history in one file.
            rev: The state.
            single: Only the adapter of this entry, not the whole state; not for ``merged``.
            rank: Truncate the adapter to this rank; its card then says what that costs.
            records: Records to measure a truncation or a camouflage on; None for the facts themselves.
            scores: Whether recorded scores go with a bundle.
            base_name: What adapter and card call the base model; by default what it loads by on this machine.
            camouflage: Decoys to mix into the rows of each fact of the adapter (`seqedit.shipping.camouflage`), which
                then has no record of its facts; or a `DecoySettings` with strength and seed.
            decoys: Names of decoys, of the same kind as the edited subjects.

        Returns:
            ``out``.

        Raises:
            InputError: an unknown format, options that do not go together, or ``out`` is not empty.
        """
        if format not in get_args(Format):
            raise InputError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
        if format != "peft" and (rank is not None or records is not None):
            raise InputError(f"rank and records are for format='peft'; '{format}' loses nothing")
        if format != "peft" and camouflage is not None:
            raise InputError(f"camouflage is for format='peft', not '{format}'")
        if format == "merged":
            if single:
                raise InputError("single writes one adapter; a merged model is that of a state")
            self.save_pretrained(out, rev=rev, base_name=base_name)
        elif format == "bundle":
            from ledger.bundles.write import plan_bundle, write_bundle

            plan = plan_bundle(self.ledger, self._to_give(rev), single=single, scores=scores)
            write_bundle(self.ledger, plan, Path(out))
        else:
            from seqedit.shipping.export import base_hint, check_new, write_adapter

            check_new(out)
            hiding = _hiding(camouflage, decoys)
            exported = self._exported(
                rev, single=single, rank=rank, records=records, base_name=base_name, hiding=hiding
            )
            if (hint := base_hint(exported.adapter)) is not None:
                _LOG.warning("%s", hint.replace("--base-name", "base_name="))
            try:
                write_adapter(exported, out, edited=self.edited)
            finally:
                self.restore()
        return Path(out)

    def push_to_hub(
        self,
        repository: str,
        *,
        rev: Entry | str = "HEAD",
        rank: int | None = None,
        records: Facts | None = None,
        base_name: str | None = None,
        **options: Any,
    ) -> Pushed:
        """Publish a state on the HuggingFace Hub: a stock PEFT adapter with its card, and the history.

        Args:
            repository: Id, such as ``me/edits``; made where there is none.
            rev: The state.
            rank: Truncate the adapter to this rank.
            records: Records to measure a truncation on.
            base_name: Hub id of the base model, where it was loaded from a path.
            options: ``private``, ``revision``, ``message``, ``scores``, ``force``, ``dry_run`` of
                `seqedit.shipping.hub.push_state`.

        Raises:
            InputError: not logged in, no access, or the repository holds another history.
            EnvironmentFailure: the Hub cannot be reached.
        """
        from seqedit.shipping.hub import push_state

        exported = self._exported(rev, single=False, rank=rank, records=records, base_name=base_name)
        return push_state(self.ledger, exported, repository, **options)

    def report(self, out: str | Path, *, rev: Entry | str = "HEAD", title: str = "Sequential editing") -> Path:
        """Write the page, plots and tables of a state's history.

        Args:
            out: Folder.
            rev: The state; its steps show the scores that `evaluate` (or a run) wrote.
            title: Title of the page.

        Returns:
            The page.
        """
        from evals.report.report import write_report
        from seqedit.scoring.losses import tell_losses
        from seqedit.scoring.summary import build_summary

        at = self._id(rev)
        return write_report(tell_losses(self.ledger, at, build_summary(self.ledger, at, title=title)), out)

    def _exported(
        self,
        rev: Entry | str,
        *,
        single: bool,
        rank: int | None,
        records: Facts | None,
        base_name: str | None,
        hiding: tuple[DecoySettings, Sequence[str]] | None = None,
    ) -> Exported:
        from seqedit.shipping.export import export_adapter

        if records is not None and rank is None and hiding is None:
            raise InputError("records measure what a truncation costs; give rank too")
        if rank is not None and hiding is not None:
            raise InputError("rank changes what is written at the edited keys, camouflage keeps it; give one of them")
        if rank is not None and rank < 1:
            raise InputError(f"rank must be at least 1, got {rank}")
        exported = export_adapter(self.ledger, self._to_give(rev), single=single, rank=rank, base_name=base_name)
        if rank is None and hiding is None:
            return exported
        from seqedit.library.inputs import facts_of
        from seqedit.shipping.truncation import measure_effect, records_for

        chosen = None if records is None else facts_of(records)
        try:
            if hiding is not None:
                exported = self._hidden(exported, *hiding)
            return measure_effect(exported, self.edited, records_for(exported.exact.requests, chosen))
        finally:
            self.restore()

    def _hidden(self, exported: Exported, settings: DecoySettings, decoys: Sequence[str]) -> Exported:
        from seqedit.shipping.camouflage import camouflage, warning_of

        made = camouflage(self.ledger, exported, self.edited, self.editor.moments, decoys, settings)
        assert made.shipped.camouflage is not None
        if (warning := warning_of(made.shipped.camouflage)) is not None:
            _LOG.warning("%s", warning)
        return made

    def _to_give(self, rev: Entry | str) -> str:
        """The id of a state that is to leave the ledger; where it has signers, they must vouch for it."""
        state = self._id(rev)
        if self.ledger.signers is None:
            self.ledger.signers = self.ledger.kept_signers()
        self.ledger.check_signed(state)
        return state


def _hiding(
    camouflage: int | DecoySettings | None, decoys: Sequence[str] | None
) -> tuple[DecoySettings, Sequence[str]] | None:
    from seqedit.shipping.decoys import NO_DEFAULT, DecoySettings

    if camouflage is None:
        if decoys is not None:
            raise InputError("decoys are for camouflage=N; give that too")
        return None
    if not decoys:
        raise InputError(f"camouflage needs decoys: {NO_DEFAULT}")
    return camouflage if isinstance(camouflage, DecoySettings) else DecoySettings(camouflage), decoys
