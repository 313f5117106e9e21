"""A session's operations on its history: swap, merge, rebase, reorder, branches, and the questions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import Entry
from seqedit.editing.rule import Settled, settle
from seqedit.editing.settings import BY_RULE, Given, MethodChoice
from seqedit.errors import InputError
from seqedit.scoring.kinds import KIND_DIAGNOSIS
from seqedit.session.session import Session as Core

if TYPE_CHECKING:
    from ledger.history.diff import StateDiff
    from ledger.queries.blame import Answer
    from ledger.queries.tags import Tag
    from seqedit.history.status import Status
    from seqedit.library.inputs import Facts, Tasks
    from seqedit.methods.config import EditConfig
    from seqedit.session.bisect import Found
    from seqedit.session.merging import How


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """What tells two states apart.

    Attributes:
        states: The two states, and their changed facts and entries.
        norms: Module name -> Frobenius norm of the difference of its weights.
        answers: Prompt -> (answer in the old state, answer in the new one); empty unless asked for.
    """

    states: StateDiff
    norms: dict[str, float]
    answers: dict[str, tuple[str, str]]


class History(Core):
    """A session with the history's operations as methods; each works on the session's own branch and state."""

    def _id(self, which: Entry | str) -> str:
        """The id of an entry, or of a revision relative to the session's own state."""
        return which.id if isinstance(which, Entry) else self.ledger.resolve(self.named(which))

    def revert(self, rev: Entry | str, *, message: str | None = None, author: str = "", reason: str = "") -> Entry:
        """Take an entry out of force; the model is bit-equal to one that never had it.

        Args:
            rev: The entry.
            message: Message of the new entry.
            author: Its author.
            reason: Why; kept in the new entry, and shown by `blame`.

        Raises:
            InputError: the entry is not in force.
            BranchMoved: the branch moved under the session; nothing was recorded.
        """
        return super().revert(self._id(rev), message=message, author=author, reason=reason)

    def cherry_pick(
        self,
        *revs: Entry | str,
        how: str = "delta",
        message: str | None = None,
        author: str | None = None,
        reason: str = "",
    ) -> list[Entry]:
        """Apply entries of other branches, or ones that are out of force, on top of the session's own state.

        Args:
            revs: The entries, in the order in which they are to compose.
            how: ``delta``: their adapters as they are; ``solve``: their stored target values, solved for on this state.
            message: Message of every new entry; None for that of the entry it comes from.
            author: Its author; None likewise.
            reason: Why; kept in every new entry.

        Raises:
            InputError: an entry is in force already, or has no target values to solve for.
            BranchMoved: the branch moved under the session.
        """
        from seqedit.history.pick import cherry_pick

        made = cherry_pick(
            self, self.ledger, [self._id(rev) for rev in revs], how, message=message, author=author, reason=reason
        )
        return [self._diagnosed(entry) for entry in made]

    def swap(
        self,
        rev: Entry | str,
        method: str | None = None,
        *,
        preset: str | None = None,
        hparams: str | Path | None = None,
        message: str | None = None,
        author: str = "",
        reason: str = "",
        **settings: Any,
    ) -> Entry:
        """Edit an entry's facts by another method or setting, in its place; what follows stays as it is.

        Where the method stays, the entry's settings are what single ones change; another method takes its layers, and
        what then is not given is settled for the model, as in `edit`.

        Args:
            rev: The entry.
            method: Name of the method; None for the entry's own.
            preset: Name of a shipped preset, or a preset file; ``rule`` for settings by rule.
            hparams: Hyperparameter file.
            message: Message of the new entry.
            author: Its author.
            reason: Why; kept in the new entry.
            settings: Single settings, on top of all others.

        Raises:
            InputError: the entry is not in force, or the settings do not fit.
        """
        from seqedit.session.entries import active_entry, chosen_for
        from seqedit.session.swap import swap

        old = active_entry(self.ledger, self._id(rev), "swap", self.tip)
        choice = MethodChoice(method, preset, None if hparams is None else Path(hparams), settings)
        name, chosen = chosen_for(old, choice)
        settled = self._settle(preset, chosen)
        return self._diagnosed(swap(
            self, old.id, name, settled.config, message=message, author=author, reason=reason,
            noted=settled.provenance(),
        ))  # fmt: skip

    def merge(
        self,
        *revs: Entry | str,
        how: How = "sum",
        method: str | None = None,
        preset: str | None = None,
        hparams: str | Path | None = None,
        density: float = 0.5,
        seed: int = 0,
        message: str | None = None,
        author: str = "",
        reason: str = "",
        **settings: Any,
    ) -> Entry:
        """Merge entries into one, in the place of the last of them.

        Args:
            revs: At least two entries, of this branch or others.
            how: ``sum`` (the same weights), ``solve`` (all their facts as one batch), ``ties`` or ``dare``.
            method: Closed form of ``solve``; None for the entries' own.
            preset: Shipped settings of ``solve``.
            hparams: Hyperparameter file of ``solve``.
            density: Share that ``ties`` and ``dare`` keep of each delta.
            seed: Seed of ``dare``.
            message: Message of the new entry.
            author: Its author.
            reason: Why; kept in the new entry.
            settings: Single settings of ``solve``.

        Raises:
            InputError: fewer than two entries, ones that contradict each other, or settings without ``solve``.
        """
        from seqedit.session.merge import merge, parts_of, solved_by

        ids = [self._id(rev) for rev in revs]
        choice = MethodChoice(method, preset, None if hparams is None else Path(hparams), settings)
        chosen, config = solved_by(parts_of(self.ledger, ids, self.tip), how, choice)
        settled = None if config is None else self._settle(preset, config)
        return self._diagnosed(merge(
            self, self.ledger, ids, how, method=chosen, config=None if settled is None else settled.config,
            density=density, seed=seed, message=message, author=author, reason=reason,
            noted=None if settled is None else settled.provenance(),
        ))  # fmt: skip

    def _diagnosed(self, made: Entry) -> Entry:
        """An entry, after what its diagnosis found amiss was logged; what was only recomposed has none."""
        found = self.ledger.scores(made.id, KIND_DIAGNOSIS).get(KIND_DIAGNOSIS) or {}
        for fault in found.get("faults", ()):
            _LOG.warning("%s", fault["text"])
        return made

    def _settle(self, preset: str | None, chosen: EditConfig | Given) -> Settled:
        """Settings for the session's model, after what is to be told of them was logged."""
        from seqedit.editing.preset_model import preset_warning

        warning = None if preset == BY_RULE else preset_warning(
            preset, self.edited.parts, self.edited.base_model.name
        )  # fmt: skip
        settled = settle(chosen, self.editor)
        for line in settled.notes:
            _LOG.info("%s", line)
        for line in (*settled.warnings, *([] if warning is None else [warning])):
            _LOG.warning("%s", line)
        return settled

    def rebase(
        self,
        onto: Entry | str | None = None,
        *,
        resume: bool = False,
        message: str | None = None,
        author: str = "",
        reason: str = "",
    ) -> str:
        """Recompute what follows a change (a revert, a swap), or replay the branch on another revision.

        Args:
            onto: Revision to replay on; None for the branch's own start.
            resume: Go on with one that was interrupted.
            message: What is said of it; by default what it was.
            author: Who does it.
            reason: Why; kept in the entry that ends it, with what it dropped.

        Returns:
            Id of the entry that the branch is at now; the same as before where nothing was to be done.
        """
        target = None if onto is None else self._id(onto)
        text = message or ("rebase" if onto is None else f"rebase: onto {target}")
        said = {"operation": "rebase", "message": text, "author": author, "reason": reason}
        return self._replay(said, resume, onto=target)

    def reorder(
        self,
        *revs: Entry | str,
        resume: bool = False,
        message: str | None = None,
        author: str = "",
        reason: str = "",
    ) -> str:
        """Put entries into another order and recompute what that changes.

        Args:
            revs: Entries in force, in the wanted order; others stay in place.
            resume: Go on with one that was interrupted.
            message: As for `rebase`.
            author: As for `rebase`.
            reason: As for `rebase`.

        Returns:
            Id of the entry that the branch is at now.
        """
        said = {"operation": "reorder", "message": message or "reorder", "author": author, "reason": reason}
        return self._replay(said, resume, order=[self._id(rev) for rev in revs])

    def _replay(self, said: dict[str, str], resume: bool, **how: Any) -> str:
        from seqedit.session.rebase import Step, plan_rebase, rebase

        self._need_head()
        self.check_unmoved()
        plan = plan_rebase(self.ledger, **how)
        if not plan.changes:
            return self.tip

        def told(step: Step, new: Entry) -> None:
            if step.action == "recompute":
                self._diagnosed(new)

        return rebase(
            self, plan, resume=resume, on_step=told, operation=said["operation"], message=said["message"],
            author=said["author"], reason=said["reason"],
        )  # fmt: skip

    def _need_head(self) -> None:
        if self.ledger.branch() != self.branch:
            raise InputError(
                f"HEAD names branch '{self.ledger.branch()}', the session extends '{self.branch}'; call "
                f"switch('{self.branch}') first"
            )

    def switch(self, branch: str, *, create: bool = False) -> None:
        """Go on from another branch, as ``seqedit checkout`` does: HEAD names it, and the model gets its weights.

        Args:
            branch: Its name.
            create: Make it first, at the session's own state.

        Raises:
            InputError: there is no such branch, or already is.
        """
        if create:
            self.ledger.start_branch(branch, self.tip)
        self.ledger.switch(branch)
        self.checkout()

    def branches(self) -> dict[str, str]:
        """Name -> id of the entry that the branch is at."""
        return self.ledger.branches()

    def undo(self, *, message: str | None = None) -> None:
        """Take back the last move of the session's branch: an edit, a revert, a rebase. Undo again to redo."""
        self.ledger.undo(self.branch, message=message)
        self.follow(self.ledger.branch_entry(self.branch))

    def tag(
        self, name: str, rev: Entry | str = "HEAD", *, message: str = "", author: str = "", force: bool = False
    ) -> Tag:
        """Name a state for good; `gc` keeps what it leads to, and bundles carry it.

        Args:
            name: Its name, which no branch may have.
            rev: The state.
            message: What is said of it.
            author: Who says so.
            force: Move a tag that is there.

        Raises:
            InputError: a name that cannot be one, or a tag that is there already.
        """
        return self.ledger.tag(name, self._id(rev), message=message, author=author, force=force)

    def tags(self) -> list[Tag]:
        """All tags, by name; `Ledger.delete_tag` deletes one."""
        return self.ledger.tags()

    def status(self) -> Status:
        """Where the session's branch stands: what is in force, load of the layers, last scores and gates, what waits.

        Nothing is measured for it; ``to_dict()`` gives it as JSON types.
        """
        from seqedit.history.status import status_of

        return status_of(self.ledger, self.branch)

    def log(self, rev: Entry | str = "HEAD", limit: int | None = None) -> list[Entry]:
        """Entries of a state's history, newest first."""
        return self.ledger.log(self._id(rev), limit)

    def blame(
        self, subject: str, relation: str | None = None, *, rev: Entry | str = "HEAD", everywhere: bool = False
    ) -> list[Answer]:
        """Which entries taught facts of a subject, and what became of each.

        Args:
            subject: Whose facts, exactly as they were taught.
            relation: Only this relation, or prompt.
            rev: The state that is asked about.
            everywhere: Also entries that are not in its history.
        """
        return self.ledger.blame(subject, relation, rev=self._id(rev), everywhere=everywhere)

    def diff(
        self, old: Entry | str, new: Entry | str = "HEAD", *, answers: bool = False, probes: Sequence[str] = (),
        tokens: int = 8,
    ) -> Difference:  # fmt: skip
        """What tells two states apart.

        Args:
            old: A state.
            new: The other one.
            answers: Also what the model says of every changed fact in both.
            probes: Further prompts to be answered.
            tokens: New tokens of an answer.
        """
        from seqedit.session.diff import answers_of, delta_norms

        found = self.ledger.diff(self._id(old), self._id(new))
        said = {}
        if answers or probes:
            said = answers_of(self.ledger, found, probes, session=self, tokens=tokens)
        return Difference(found, delta_norms(self.ledger, found), said)

    def bisect(
        self,
        metric: str,
        good: Entry | str | None = None,
        bad: Entry | str = "HEAD",
        *,
        below: float | None = None,
        drop: float | None = None,
        tasks: Tasks | None = None,
        records: Facts | None = None,
        skip_unusable: bool = False,
        text: str | Path | None = None,
    ) -> Found:
        """The first entry after which a metric is bad; only states that the ledger has no value of are measured.

        Args:
            metric: ``TASK.METRIC``, ``ES``, ``PS``, ``NS``, ``S``, ..., ``ppl`` or ``kl``.
            good: A state where it is good; None for the unedited model.
            bad: A state where it is bad.
            below: Values below are bad (``ppl``, ``kl``: above); None for half way between the ends.
            drop: A change by more than this from the good state is bad.
            tasks: The task, to measure what is missing.
            records: Records that scores of facts are measured on.
            skip_unusable: Leave out records that cannot be used, and log which and why.
            text: Text that ``ppl`` and ``kl`` are measured on.

        Raises:
            InputError: the two states are not a good and a bad one, or what to measure on is missing.
        """
        from seqedit.library.inputs import metric_of
        from seqedit.session.bisect import bisect_ledger

        if below is not None and drop is not None:
            raise InputError("give below or drop, not both")
        return bisect_ledger(
            self.ledger, metric_of(metric, tasks=tasks, records=records, text=text, skip_unusable=skip_unusable),
            self.ledger.root() if good is None else self._id(good), self._id(bad), threshold=below, drop=drop,
            session=self,
        )  # fmt: skip
