"""A session: a model, its ledger, and a sequence of edits, each one an entry and each one scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ledger import Entry, Ledger
from ledger.errors import BranchMoved, Conflict
from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor, Moments, keys_of
from seqedit.editing.recorded import completed
from seqedit.facts.requests import Record, Request
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments
from seqedit.parallel.ranks import Ranks
from seqedit.scoring.drift import drift_of
from seqedit.scoring.evaluator import Batch, Evaluator, StepScores
from seqedit.scoring.kinds import (
    KIND_ANSWERS,
    KIND_DIAGNOSIS,
    KIND_DRIFT,
    KIND_FORGETTING,
    KIND_LEARNT,
    KIND_OUTCOMES,
    KIND_RECORDS,
    KIND_SCORES,
    KIND_SKIPPED,
    KIND_TASKS,
    KIND_TIMINGS,
)
from seqedit.scoring.learnt import learnt_from, learnt_of
from seqedit.scoring.split import SplitScoring


class Session:
    """Edits a model batch after batch, and owns the branch that it extends.

    The session knows the entry its branch is at (``tip``), and composes, computes, records and scores by that id:
    whoever moves HEAD meanwhile does not move the session. Whoever moves its branch stops it: every writing method
    appends by compare-and-swap to ``branch`` at ``tip`` and raises `BranchMoved`. `checkout` without a revision takes
    up the branch that HEAD is on.

    Args:
        edited: The loaded model.
        ledger: Its ledger; must belong to the same base model.
        moments: Second moments of every layer that will be edited, or what provides those of some layers when they
            are first needed; None where no method needs them.
        context_templates: Groups of context templates; None samples them from the unedited model.
        seed: Seed of that sampling.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
        branch: The branch to extend; by default HEAD's.

    Attributes:
        branch: The branch that is extended.
        tip: Id of the entry it is at, as far as this session moved it.
    """

    def __init__(
        self,
        edited: EditedModel,
        ledger: Ledger,
        moments: Moments | None,
        *,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
        ranks: Ranks | None = None,
        branch: str | None = None,
    ) -> None:
        self.editor = Editor(edited, moments, context_templates=context_templates, seed=seed, ranks=ranks)
        self.edited, self.ledger = edited, ledger
        self._at: str | None = None  # the state whose weights the model has
        self.branch, self.tip = ledger.position() if branch is None else (branch, ledger.branch_entry(branch))
        self.restore()

    @property
    def moments(self) -> Moments | None:
        """Second moments, or what provides them; may be replaced."""
        return self.editor.moments

    @moments.setter
    def moments(self, moments: Moments | None) -> None:
        self.editor.moments = moments

    @property
    def context_templates(self) -> Sequence[Sequence[str]]:
        """The given context templates, or ones that are sampled when they are first needed."""
        return self.editor.context_templates

    @property
    def seed(self) -> int:
        """Seed of whatever is drawn."""
        return self.editor.seed

    @property
    def ranks(self) -> Ranks | None:
        """Processes that do a share of the work."""
        return self.editor.ranks

    def checkout(self, rev: str = "HEAD") -> None:
        """Give the model the weights of a state, composed from the base.

        HEAD itself is taken up as what the session extends from now on; any other state is only looked at, and
        `restore` (as every edit does) brings the session's own back.
        """
        if rev == "HEAD":
            self.branch, self.tip = self.ledger.position()
            self.restore()
        else:
            self._write(self.ledger.resolve(self.named(rev)))

    def restore(self) -> None:
        """Give the model the weights of the session's own state again."""
        self._write(self.tip)

    def check_unmoved(self) -> None:
        """Refuse to go on where the branch is no longer where the session left it.

        Raises:
            BranchMoved: another writer moved or deleted it.
        """
        found = self.ledger.branches().get(self.branch)
        if found != self.tip:
            raise BranchMoved(self.branch, self.tip, found)

    def extend(self, act: Callable[[str, str], Entry]) -> Entry:
        """Append an entry to the session's branch and bring the model to the new state.

        Args:
            act: Appends to the branch (first argument) if it is at an entry (second argument).

        Raises:
            BranchMoved: the branch is elsewhere; nothing was recorded, and the model has the weights of `tip`.
        """
        try:
            entry = act(self.branch, self.tip)
        except Conflict as error:
            self.restore()
            raise BranchMoved(error.ref, error.expected, error.found) from error
        self.tip = entry.id
        self.restore()
        return entry

    def follow(self, tip: str) -> None:
        """Go on from another entry, to which the caller has just moved the session's branch."""
        self.tip = tip
        self.restore()

    def named(self, rev: str) -> str:
        """A revision relative to HEAD, as one relative to the session's own state; others as they are."""
        return self.tip + rev.removeprefix("HEAD") if rev == "HEAD" or rev.startswith("HEAD~") else rev

    def _be_at_tip(self) -> None:
        if self._at != self.tip:  # another state was looked at since
            self.restore()

    def _write(self, state: str) -> None:
        self._at = None
        self.edited.write(self.ledger.compose(self.edited.base, state, only_changed=True))
        self._at = state

    def compute(self, requests: Sequence[Request], method: str, config: EditConfig) -> Adapter:
        """Compute a batch on the session's own state; the ledger does not change."""
        self._be_at_tip()
        in_force = sum(map(len, self.ledger.live_requests(self.tip).values()))
        return self.editor.compute(
            requests, method, config, earlier=lambda: self.ledger.adapters(self.tip), in_force=in_force
        )

    def compute_on(
        self,
        before: Sequence[Entry],
        requests: Sequence[Request],
        method: str,
        config: EditConfig,
        *,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        target_values: Tensor | None = None,
    ) -> Adapter:
        """Compute a batch on the state that some entries make up; afterwards the model is at the session's own again.

        Args:
            before: The entries whose adapters make up the state, in composing order.
            requests: The batch.
            method: Name of the method.
            config: Its settings.
            context_templates: Templates instead of the session's.
            seed: Seed instead of the session's.
            target_values: (n, d) target values to use instead of optimising them; closed forms only.
        """
        adapters = [self.ledger.adapter(entry) for entry in before]
        try:
            self._at = None
            self.edited.apply(adapters)
            return self.editor.compute(
                requests, method, config, earlier=lambda: adapters, context_templates=context_templates, seed=seed,
                target_values=target_values, in_force=sum(len(adapter.requests) for adapter in adapters),
            )  # fmt: skip
        finally:
            self.restore()

    def earlier_keys(self) -> dict[str, Tensor]:
        """Module name -> (N, d_in) keys of all active edits (`keys_of`)."""
        return keys_of(self.ledger.adapters(self.tip))

    def edit(
        self,
        requests: Sequence[Request],
        method: str,
        config: EditConfig,
        *,
        message: str = "",
        author: str = "",
        when: str | None = None,
        check: Callable[[Adapter], None] | None = None,
        noted: Mapping[str, Any] | None = None,
        facts_file: Mapping[str, str] | None = None,
    ) -> Entry:
        """Compute a batch, append it to the session's branch, and bring the model to the new state.

        Args:
            requests: The batch.
            method: Name of the method.
            config: Its settings.
            message: Message of the entry.
            author: Its author.
            when: Its time; now, by default.
            check: Called with the adapter before it is recorded; what it raises keeps the ledger as it is.
            noted: What the adapter's provenance is to say besides, such as `seqedit.editing.rule.Settled.provenance`.
            facts_file: Name and SHA-256 of the file that the facts come from, for the entry to keep.

        Raises:
            BranchMoved: the branch moved under the session; nothing was recorded.
        """
        self.check_unmoved()  # before minutes are spent
        start = time.perf_counter()
        adapter = self.compute(requests, method, config)
        if noted:
            adapter = replace(adapter, provenance={**adapter.provenance, **noted})
        seconds = time.perf_counter() - start
        if check is not None:
            check(adapter)
        scores = {KIND_TIMINGS: {"edit": seconds}, KIND_DIAGNOSIS: adapter.provenance["diagnosis"]}
        if noted and KIND_SKIPPED in noted:
            scores[KIND_SKIPPED] = noted[KIND_SKIPPED]
        return self.extend(
            lambda branch, tip: self.ledger.append(
                adapter, message=message, author=author, time=when, parent=tip, branch=branch,
                scores=scores, facts_file=facts_file,
            )
        )  # fmt: skip

    def learnt(self) -> dict[str, Any]:
        """What the newest entry has taught (`seqedit.scoring.learnt.learnt_of`), which is kept beside it."""
        self._be_at_tip()
        entry = self.ledger.entry(self.tip)
        live = self.ledger.live_requests(self.tip).get(entry.id, ())
        scorer = SplitScoring(self.ranks).scorer
        found = learnt_of(self.edited.model, self.edited.tokenizer, entry.requests, scorer, live)
        if entry.adapter is not None:  # a revert teaches nothing
            self.ledger.add_scores(entry.id, KIND_LEARNT, found)
        return found

    def revert(self, rev: str, *, message: str | None = None, author: str = "", reason: str = "") -> Entry:
        """Take an entry of the session's branch out of force and bring the model to the new state.

        Raises:
            BranchMoved: the branch moved under the session; nothing was recorded.
        """
        target = self.named(rev)
        return self.extend(
            lambda branch, tip: self.ledger.revert(
                target, message=message, author=author, reason=reason, parent=tip, branch=branch
            )
        )

    def score(
        self, evaluator: Evaluator, records: Mapping[str, Sequence[Record]], baseline: Mapping[str, Any] | None
    ) -> StepScores:
        """Score the session's own state and write the scores to the ledger, beside its entry.

        The new batch is that entry's own, wherever it composes; a revert brings none. Compared with is the state that
        the entry was made on, its parent's.

        Args:
            evaluator: What to measure.
            records: Entry id -> its records; entries without any are scored on their requests alone.
            baseline: Task outcomes of the unedited model.
        """
        self._be_at_tip()
        head = self.ledger.entry(self.tip)
        live = self.ledger.live_requests(head.id)
        batches = [
            Batch(e.id, records.get(e.id) or [Record(r) for r in e.requests], live[e.id])
            for e in self.ledger.active(head.id)
        ]
        previous = None if baseline is None else self._outcomes_before(head, evaluator)
        scores = evaluator.step(
            self.edited.model,
            batches,
            baseline,
            previous,
            new=None if head.adapter is None else head.id,
            unedited=self.edited.unedited,
        )
        if evaluator.settings.drift:
            start = time.perf_counter()
            scores.drift |= self.drift()
            scores.timings["drift"] = scores.timings.get("drift", 0.0) + time.perf_counter() - start
        if scores.new.get("records"):
            first = [bool(record["rewrite"][0]["argmax_correct"]) for record in scores.new["records"]]
            self.ledger.add_scores(head.id, KIND_LEARNT, learnt_from(head.requests, first, live[head.id]))
        self.record_scores(head.id, scores)
        return scores

    def _outcomes_before(self, entry: Entry, evaluator: Evaluator) -> dict[str, Any]:
        """Task outcomes of the state that an entry was made on; what the ledger has none of is measured, and kept."""
        if not evaluator.task_names or not entry.parents:
            return {}
        before = entry.parents[0]
        stored = self.ledger.state_scores(before, KIND_OUTCOMES)
        definitions = {} if evaluator.tasks is None else evaluator.tasks.definitions
        # A task of this name with other documents, prompts or metrics is another task.
        known = {
            name: data for name, data in stored.items()
            if (data.get("about") or {}).get("definition") in (None, definitions.get(name))
        }  # fmt: skip
        missing = [name for name in evaluator.task_names if name not in known]
        if missing:  # the state after an older batch was reverted, say, which no step has left
            self.checkout(before)
            try:
                found = evaluator.task_outcomes(self.edited.model)
            finally:
                self.restore()
            new = {name: found[name] for name in missing if name not in stored}
            self.ledger.add_scores(before, KIND_OUTCOMES, new)
            known |= {name: found[name] for name in missing}
        return known

    def drift(self) -> dict[str, Any]:
        """How far the session's own state has drifted (`seqedit.scoring.drift.drift_of`), whatever was computed
        before."""
        entries, adapters = self.ledger.active(self.tip), list(self.ledger.adapters(self.tip))
        names = sorted({name for adapter in adapters for name in adapter.deltas})
        weights = {p.name: p.matrix() for p in self.edited.parts.projections if p.name in names}
        return drift_of(
            entries, adapters, self.ledger.live_requests(self.tip), self.edited.base_weights(names), weights,
            self._moments_for(entries, adapters),
        )  # fmt: skip

    def _moments_for(self, entries: Sequence[Entry], adapters: Sequence[Adapter]) -> SecondMoments | None:
        """C0 of every module that a batch of a state was solved with it for; None where there is none.

        A state of methods without C0 is not made to measure it.
        """
        if self.editor.moments is None:
            return None
        layer_of = {p.name: layer for layer, p in self.edited.parts.projections.items()}
        choices = {
            tuple(sorted(layer_of[name] for name in adapter.deltas))
            for entry, adapter in zip(entries, adapters, strict=True)
            if self._solved_with_moments(entry)
        }
        matrices = self.editor.moments_of(sorted(choices))
        return SecondMoments(matrices) if matrices else None

    def _solved_with_moments(self, entry: Entry) -> bool:
        """Whether an entry, or one that was merged into it, is of a method that needs C0."""
        method: Mapping[str, Any] = entry.method.get("solved_by") or entry.method
        if method.get("name") == "merge":
            return any(self._solved_with_moments(self.ledger.entry(part)) for part in method["entries"])
        chosen = get_method(str(method["name"]))
        if not chosen.needs_second_moments:
            return False
        settings = {name: value for name, value in completed(method).items() if name != "name"}
        return chosen.reads_second_moments(chosen.config.from_dict(settings))

    def record_scores(self, rev: str, scores: StepScores) -> None:
        """Write scores of a state to the ledger; the averages last, so that they mark the step as scored."""
        add = self.ledger.add_scores
        new = dict(scores.new)
        add(rev, KIND_RECORDS, {"records": new.pop("records", [])})
        add(rev, KIND_FORGETTING, scores.by_entry)
        add(rev, KIND_ANSWERS, scores.answers)
        add(rev, KIND_OUTCOMES, scores.outcomes)
        add(rev, KIND_TASKS, scores.tasks)
        add(rev, KIND_DRIFT, scores.drift)
        add(rev, KIND_TIMINGS, scores.timings)
        add(rev, KIND_SCORES, {**new, "earlier": scores.earlier})

    def is_scored(self, rev: str) -> bool:
        """Whether a state's scores are complete."""
        return "earlier" in self.ledger.scores(rev, KIND_SCORES).get(KIND_SCORES, {})
