"""The session that users hold: a model and its ledger, from loading to giving away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ledger import Entry, Ledger
from ledger.database.places import has_ledger
from ledger.url_secrets import is_url, without_password
from seqedit.adapters.adapter import Adapter
from seqedit.defaults.filling import line_of, taken
from seqedit.editing.editor import Moments
from seqedit.editing.loading import Loading
from seqedit.editing.rule import Settled, settle
from seqedit.editing.settings import Given, given_settings
from seqedit.errors import InputError
from seqedit.facts.requests import Record, by_request, check_batch, requests_of
from seqedit.library.finding import Finding
from seqedit.library.inputs import checks_of, facts_read, noted_of, tasks_of, texts_of
from seqedit.library.watching import Watch
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.planning.order import Order
from seqedit.planning.plan import Plan
from seqedit.planning.planner import DANGER
from seqedit.runs.callbacks import Callback
from seqedit.runs.checked_edit import GateBroken, OnBroken, Recorded, edit_checked
from seqedit.runs.config import RunConfig
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.gate_check import check_measured
from seqedit.scoring.learnt import learnt_line
from seqedit.scoring.settings import EvalSettings
from seqedit.scoring.split import SplitScoring
from seqedit.session.entries import method_of
from seqedit.session.evaluate import StateScores, evaluate_state
from seqedit.text.framing import Framing

if TYPE_CHECKING:
    from seqedit.library.inputs import Facts, Tasks
    from seqedit.parallel.ranks import Ranks

_LOG = logging.getLogger(__name__)


class Session(Finding):
    """A model and its ledger: edit, evaluate, revert, and everything else that the command line does.

    `from_pretrained` loads the model and makes or opens the ledger. Whoever has both already calls the class itself.

    Args:
        edited: The loaded model.
        ledger: Its ledger.
        moments: Second moments, or what provides those of some layers when they are first needed; None where no method
            needs them.
        context_templates: Groups of context templates; None samples them from the unedited model.
        seed: Seed of that sampling.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
        branch: The branch to extend; by default HEAD's.
        callbacks: Told what a run tells: the beginning and the baseline once, then every entry that `evaluate` scores.
        out: Folder for what callbacks write.
    """

    def __init__(
        self,
        edited: EditedModel,
        ledger: Ledger,
        moments: Moments | None = None,
        *,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
        ranks: Ranks | None = None,
        branch: str | None = None,
        callbacks: Sequence[Callback] = (),
        out: str | Path = "out",
    ) -> None:
        super().__init__(
            edited, ledger, moments, context_templates=context_templates, seed=seed, ranks=ranks, branch=branch
        )
        self.out = Path(out)
        self._place = ""
        self._owned = False
        self._known: dict[str, Record] = {}
        self._made: tuple[str, EditConfig, int] | None = None
        self._watch = Watch(callbacks, self._as_run)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        ledger: str | Path = "ledger",
        objects: str | None = None,
        branch: str | None = None,
        second_moments: str | Path | None = None,
        text: str | None = None,
        context_templates: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
        dtype: str = "auto",
        device: str | None = None,
        author: str = "",
        callbacks: Sequence[Callback] = (),
        out: str | Path = "out",
        ranks: Ranks | None = None,
    ) -> Self:
        """Load a model; open its ledger, or make one.

        Args:
            model: Hub id, local directory, or a shipped model (``demo-gpt2``, ``demo-llama``).
            ledger: Directory or database URL.
            objects: fsspec URL of the object store; needed to make a ledger at a database URL.
            branch: The branch to extend; by default HEAD's.
            second_moments: Safetensors file with one matrix per module name; without it they are measured when a
                method first needs them, and kept in the cache.
            text: Text to measure them on.
            context_templates: Groups of context templates; None samples them when they are first needed.
            seed: Of what is sampled.
            dtype: Weight type, ``auto`` keeps the checkpoint's.
            device: Device; None for the GPU where there is one, ``auto`` for all of them.
            author: Author of a new ledger's first entry.
            callbacks: As for the class.
            out: As for the class.
            ranks: Processes that hold the model and do a share of the work.

        Raises:
            InputError: the ledger is another model's, or the model cannot be edited.
            EnvironmentFailure: model or ledger cannot be read.
        """
        name, place = str(model), str(ledger)
        there = has_ledger(place)
        if not there and is_url(place) and objects is None:  # before the model is read
            raise InputError("a ledger at a database URL needs objects=, the directory or URL of its object store")
        loading = Loading(name, second_moments, text, context_templates, seed, dtype, device, ranks)
        edited = loading.load()
        if there:
            opened = Ledger.open(place, edited.base_model, objects=objects)
        else:
            opened = Ledger.create(place, edited.base_model, objects=objects, author=author)
        try:
            session = cls(
                edited, opened, loading.moments(edited),
                context_templates=context_templates, seed=seed, ranks=ranks, branch=branch, callbacks=callbacks,
                out=out,
            )  # fmt: skip
        except BaseException:
            opened.close()
            raise
        session._place, session._owned = without_password(place), True
        return session

    def edit(
        self,
        requests: Facts,
        method: str | None = None,
        config: EditConfig | None = None,
        *,
        preset: str | None = None,
        hparams: str | Path | None = None,
        message: str = "",
        author: str = "",
        when: str | None = None,
        check: Callable[[Adapter], None] | None = None,
        zsre: str = "mend",
        join: str | None = None,
        chat_template: bool = False,
        limit: int | None = None,
        skip_unusable: bool = False,
        gates: Any = None,
        records: Facts | None = None,
        tasks: Tasks | None = None,
        text: str | Path | None = None,
        scoring: EvalSettings | None = None,
        on_gate: OnBroken = "revert",
        **settings: Any,
    ) -> Entry:
        """Compute one batch, append it to the session's branch, and bring the model to the new state.

        What it has taught is kept beside the entry (``ledger.scores(entry.id, "learnt")``) and logged. With gates,
        records, tasks or a text the new state is scored as a run's step is, and the scores are kept too.

        Args:
            requests: Fact file, dataset, Hub id, or a sequence of requests or records.
            method: Name of the method (`seqedit.method_names`); None for the one that is set for the ledger
                (`seqedit config`), with the preset, hyperparameter file, layers and spread that are set there.
            config: Its settings, whole; else they come from ``preset``, ``hparams`` and ``settings``, and what those
                leave open is settled for the model (`seqedit.editing.rule.settle`).
            preset: Name of a shipped preset, or a preset file; ``rule`` for settings by rule.
            hparams: Hyperparameter file (ours, MEMIT's or EasyEdit's).
            message: Message of the entry; by default how many facts by which method.
            author: Its author.
            when: Its time; by default now.
            check: Called with the adapter before it is recorded; what it raises keeps the ledger as it is.
            zsre: What zsRE records teach.
            join: What stands between a prompt and its answer: ``auto``, ``space`` or ``none``; None for ``auto``.
            chat_template: Put prompts into the user's turn of the model's chat template.
            limit: Take only the first facts.
            skip_unusable: Leave out records that cannot be used; the entry and its adapter keep which and why.
            gates: Limits that the new state must keep, as in a run (``"earlier.ES: min 90"``).
            records: Records with paraphrases and neighbours of the facts, new and earlier; those that ``requests``
                bring and those of the session's earlier edits are known.
            tasks: lm-eval tasks, by name or with a local file of documents each.
            text: Plain text whose perplexity and KL to the unedited model are measured.
            scoring: How it is measured; by default everything but generated texts.
            on_gate: What a broken gate does: ``revert`` takes the entry out of force, ``stop`` leaves it.
            settings: Single settings by name, such as ``layers=[5, 6]``; on top of all others.

        Raises:
            InputError: facts, method, settings or gates that do not fit; nothing was computed.
            BranchMoved: the branch moved under the session; nothing was recorded.
            GateBroken: a gate was broken; what it says and ``on_gate`` was done.
        """
        if method is None:
            method, preset, hparams, settings = self._kept(config, preset, hparams, settings)
        given = _given(method, config, preset, hparams, settings)  # what does not fit is said before facts are read
        read = facts_read(requests, zsre=zsre, limit=limit, skip_unusable=skip_unusable)
        facts = self._framed(read.records, join, chat_template)
        batch = requests_of(facts)
        check_batch(batch, read.numbers if isinstance(requests, str | Path) else None)
        checks = checks_of(
            gates, records, tasks, text, settings=scoring, on_gate=on_gate, zsre=zsre, skip_unusable=skip_unusable
        )
        if checks.wanted:
            given_too = by_request(checks.records or ())
            checks = replace(checks, records=list({**self._known, **given_too}.values()))
        checks.check(facts, method, self.ledger, self.tip)
        for overlap in self.ledger.overlaps(batch, self.tip):
            _LOG.info("%s", overlap)
        self.check_unmoved()  # before minutes are spent on second moments
        config = (settled := self._settled(given)).config
        self._made = method, config, len(batch)
        if checks.wanted:
            self._watch.begin()
        noted = Recorded(message or f"{len(batch)} facts by {method}", author, when, check, noted_of(settled, read))
        made = edit_checked(
            self, facts, method, config, checks, noted, lambda entry: self._watch.scored(self.ledger, entry.id)
        )  # fmt: skip
        self._diagnosed(made.entry)
        _LOG.info("%s", learnt_line(made.learnt))
        self._known |= by_request(facts)
        if made.tripped:
            raise GateBroken(made)
        return made.entry

    def plan(
        self,
        requests: Facts,
        method: str,
        config: EditConfig | None = None,
        *,
        preset: str | None = None,
        hparams: str | Path | None = None,
        batch_size: int | None = None,
        order: Order = "file",
        danger: float = DANGER,
        zsre: str = "mend",
        join: str | None = None,
        chat_template: bool = False,
        limit: int | None = None,
        skip_unusable: bool = False,
        **settings: Any,
    ) -> Plan:
        """Say what facts will meet on the session's state before they are written; nothing changes.

        Args:
            requests: As for `edit`; contradictions are told, not refused.
            method: Name of the method.
            config: Its settings, whole; else they come from ``preset``, ``hparams`` and ``settings``.
            preset: Name of a shipped preset.
            hparams: Hyperparameter file.
            batch_size: Facts of a batch; None for all in one.
            order: ``file``, or ``clustered``: near keys into one batch.
            danger: Cosine from which a fact in force is endangered.
            zsre: What zsRE records teach.
            join, chat_template: As for `edit`.
            limit: Take only the first facts.
            skip_unusable: Leave out records that cannot be used, and say which and why.
            settings: Single settings by name; on top of all others.

        Raises:
            InputError: facts, method, settings or sizes that do not fit.
        """
        from seqedit.planning.order import ORDERS
        from seqedit.session.plan import plan_edits

        if order not in ORDERS:
            raise InputError(f"order must be {' or '.join(ORDERS)}, got {order!r}")
        given = _given(method, config, preset, hparams, settings)
        read = facts_read(requests, zsre=zsre, limit=limit, skip_unusable=skip_unusable)
        facts = requests_of(self._framed(read.records, join, chat_template))
        found = plan_edits(
            self, facts, method, self._settled(given).config, batch_size=batch_size, order=order, danger=danger
        )
        return replace(found, skipped=read.skipped)

    def evaluate(
        self,
        rev: Entry | str = "HEAD",
        *,
        records: Facts | None = None,
        tasks: Tasks | None = None,
        text: str | Path | None = None,
        gates: Any = None,
        settings: EvalSettings | None = None,
        zsre: str = "mend",
        skip_unusable: bool = False,
        join: str | None = None,
        chat_template: bool = False,
        keep: bool = True,
    ) -> StateScores:
        """Score a state: new and earlier facts, tasks against the unedited model, gates.

        Args:
            rev: The state.
            records: Records with paraphrases and neighbours of the facts; those that `edit` was given are known.
            tasks: lm-eval tasks, by name or with a local file of documents each.
            text: Plain text whose perplexity is measured.
            gates: Limits, as in a run (``"cola.mcc: max_drop 0.05 at 95 %"``).
            settings: What is measured and how; by default everything but generated texts.
            zsre: What zsRE records teach.
            skip_unusable: Leave out records that cannot be used, and say which and why.
            join, chat_template: Put prompts to the model in this way, not as the facts were edited; nothing is kept.
            keep: Write the scores of the session's own state beside its entry, for log, report and bisect; callbacks
                are told of them. Scores of other states are returned only.

        Raises:
            InputError: the state has no edits, or a gate's metric is not measured.
            NumericsError: the model's outputs are not finite, and there is no gate to say so.
        """
        from evals.gates import parse_gates

        chosen = settings or EvalSettings(generation=False)
        limits = parse_gates([gates] if isinstance(gates, str) else gates)
        check_measured(
            limits, counterfact=chosen.counterfact, generation=chosen.generation, drift=keep and chosen.drift,
            text=text is not None,
        )  # fmt: skip
        state = self._id(rev)
        read = None if records is None else facts_read(records, zsre=zsre, skip_unusable=skip_unusable)
        given = [] if read is None else read.records
        known = {**self._known, **by_request(given)}
        loaded, texts = tasks_of(tasks, limit=chosen.task_documents), texts_of(text)
        split = SplitScoring(self.ranks)
        evaluator = Evaluator(
            self.edited.tokenizer, chosen, tasks=loaded, texts=texts, seed=self.seed, scorer=split.scorer,
            generator=split.generator,
        )  # fmt: skip
        framing = Framing(join, chat_template)
        keep = keep and not framing.given
        told = keep and state == self.tip
        if told:
            self._watch.begin()
        found = evaluate_state(
            self, evaluator, state, records=list(known.values()), gates=limits, keep=keep, framing=framing
        )
        if told:
            self._watch.scored(self.ledger, state)
        return found if read is None else replace(found, skipped=read.skipped)

    def _kept(
        self, config: EditConfig | None, preset: str | None, hparams: str | Path | None, settings: dict[str, Any]
    ) -> tuple[str, str | None, str | Path | None, dict[str, Any]]:
        """Method, preset, hyperparameter file and single settings, with what is set for the ledger."""
        if config is not None:
            raise InputError("config is all settings of a method: give the method too")
        places = {"preset": preset, "hparams": hparams, **settings}
        given = {name for name, value in places.items() if value is not None}
        kept = taken(self.ledger.defaults(), given, ("method", "preset", "hparams", "layers", "spread"))
        if "method" not in kept:
            raise InputError("no method: give one, or set it once with `seqedit config method NAME`")
        _LOG.info("%s", line_of(kept))
        single: dict[str, Any] = {name: kept[name] for name in ("layers", "spread") if name in kept}
        return kept["method"], kept.get("preset", preset), kept.get("hparams", hparams), {**single, **settings}

    def _framed(self, facts: Sequence[Record], join: str | None, chat_template: bool) -> list[Record]:
        """Facts as they are put to the session's model."""
        return Framing(join, chat_template).of(facts, lambda: self.edited.tokenizer)

    def _settled(self, given: EditConfig | Given) -> Settled:
        """Settings for the session's model, and what is to be told of them."""
        settled = settle(given, self.editor) if isinstance(given, Given) else Settled(given)
        for line in settled.notes:
            _LOG.info("%s", line)
        for line in settled.warnings:
            _LOG.warning("%s", line)
        return settled

    def _as_run(self) -> RunConfig:
        """The session as callbacks know a run."""
        method, config, size = self._made or self._last_made()
        return RunConfig(
            model=self.edited.base_model.name, facts=f"{size} facts of a session", method=method, settings=config,
            batch_size=max(size, 1), ledger=self._place, out=self.out, branch=self.branch, seed=self.seed,
        )  # fmt: skip

    def _last_made(self) -> tuple[str, EditConfig, int]:
        """How the newest batch in force was made; one that no method of this version has made tells its name alone."""
        entry = self.ledger.active(self.tip)[-1]
        try:
            return *method_of(entry), len(entry.requests)
        except InputError:
            return str(entry.method.get("name")), EditConfig(), len(entry.requests)

    def close(self) -> None:
        """Tell callbacks of the end and close them; close the ledger, if `from_pretrained` opened it."""
        self._close(finished=True)

    def _close(self, *, finished: bool) -> None:
        try:
            if finished:
                self._watch.end(self.ledger, self.tip)
        finally:
            self._watch.close()
            if self._owned:
                self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(finished=kind is None)


def _given(
    method: str, config: EditConfig | None, preset: str | None, hparams: str | Path | None, settings: dict[str, Any]
) -> EditConfig | Given:
    if config is None:
        path = None if hparams is None else Path(hparams)
        return given_settings(method, preset=preset, hparams=path, settings=settings)
    if preset is not None or hparams is not None or settings:
        raise InputError("config is all settings of a method: give it without preset, hparams and single settings")
    return config
