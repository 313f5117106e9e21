"""A model with calibration facts: target values kept on disk, settings tried on them, the weights put back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from evals.likelihood.perplexity import score_perplexity
from evals.scores.counterfact import score_records
from evals.scores.scores import Scores
from evals.tasks.tasks import LoadedTasks, evaluate_tasks
from seqedit.adapters.files import read_tensors
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.errors import InputError
from seqedit.facts.requests import Record
from seqedit.filters.originals import Originals
from seqedit.keys.templates import sample_context_templates
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.interface import scratch
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.moments.second_moments import SecondMoments
from seqedit.solver.factorizations import Factorizations
from seqedit.support.digests import json_digest
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.sites import Sublayers
from seqedit.targets.values import optimise_target_values
from seqedit.text.identity import tokenizer_digest
from seqedit.tuning.choice import Trial, judged

_LOG = logging.getLogger(__name__)
_TARGET = tuple(f.name for f in fields(TargetValueConfig))
TEXT_LINES = 60
"""Non-empty lines of the plain text that perplexity is measured on."""


class TuneBench:
    """What trials are made with.

    Args:
        edited: The unedited model; it is unedited again after every call.
        method: Name of the method.
        factors: Second moments of every layer to be tried.
        texts: Plain text for the perplexity.
        out: Folder where target values are kept.
        seed: Of the context templates.
        tasks: What else a sequence is scored by; None for nothing.
    """

    def __init__(
        self, edited: EditedModel, method: str, factors: Factorizations, texts: Sequence[str], out: Path, seed: int,
        tasks: LoadedTasks | None = None,
    ) -> None:  # fmt: skip
        self.edited, self.method, self.factors, self.out, self.seed = edited, method, factors, out, seed
        self.originals = Originals(edited.base)
        self.tasks = tasks
        self.texts = list(islice((text for text in texts if text.strip()), TEXT_LINES))
        self.contexts = sample_context_templates(edited.model, edited.tokenizer, seed=seed)
        self._unedited: dict[str, Scores] = {}
        self._perplexity: float | None = None
        self._task_baseline: dict[str, float] | None = None

    def cover(self, layers: Sequence[int], settings: SecondMomentSettings) -> None:
        """Have the second moments of some more layers."""
        moments = self.factors.moments
        missing = [i for i in layers if self.edited.parts.projections[i].name not in moments.matrices]
        if missing:
            more = provide_second_moments(self.edited, missing, settings)
            self.factors = Factorizations(SecondMoments({**moments.matrices, **more.matrices}, moments.tokens))

    def config(self, settings: Mapping[str, Any]) -> ClosedFormConfig:
        """The method's configuration with some settings."""
        config = get_method(self.method).config.from_dict(settings)
        assert isinstance(config, ClosedFormConfig)
        return config

    def target_values(self, records: Sequence[Record], config: ClosedFormConfig) -> tuple[Tensor, list[float]]:
        """(n, d) target values of facts on the unedited model at the last layer, and their losses; kept on disk."""
        target = TargetValueConfig.from_dict({name: getattr(config, name) for name in _TARGET})
        place = {} if config.target_place == "layer output" else {"place": config.target_place}
        name = json_digest({
            "base": self.edited.base_model.fingerprint, "layer": config.layers[-1], "target": target.to_dict(), **place,
            "tokenizer": tokenizer_digest(self.edited.tokenizer),
            "requests": [r.request.to_dict() for r in records], "contexts": [list(g) for g in self.contexts],
        })  # fmt: skip
        file = self.out / "values" / f"{name[:24]}.safetensors"
        if file.is_file():
            return _kept_values(file, len(records))
        parts, last = self.edited.parts, config.layers[-1]
        found = optimise_target_values(
            self.edited.model, parts, self.edited.tokenizer, [r.request for r in records], self.contexts, last, target,
            site=Sublayers(parts, last) if config.target_place == "ffn output" else None,
        )  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        values = found.values.detach().float().cpu().contiguous()
        temporary = file.with_suffix(".tmp")
        save_file({"values": values, "losses": torch.tensor(found.losses)}, temporary)
        temporary.replace(file)
        return values, list(found.losses)

    def unedited(self, records: Sequence[Record]) -> Scores:
        """Scores of the unedited model, found once."""
        name = json_digest([r.to_dict() for r in records])
        if name not in self._unedited:
            self._unedited[name] = self._scores(records)
        return self._unedited[name]

    def solved(self, records: Sequence[Record], settings: Mapping[str, Any], values: Tensor) -> Trial:
        """One batch solved from target values that are there; no optimisation."""
        before = self.unedited(records)
        config = self.config(settings)
        with scratch(self.edited.parts.projections_of(config.layers)):
            self._write(records, config, {}, values)
            return judged(settings, "solved", self._scores(records), before)

    def sequence(self, batches: Sequence[Sequence[Record]], settings: Mapping[str, Any]) -> Trial:
        """Batch after batch on the state that the ones before left; all facts are scored at the end."""
        records = [record for batch in batches for record in batch]
        before, perplexity = self.unedited(records), self._perplexity or self._text()
        self._perplexity = perplexity
        self._task_baseline = baseline = self._tasks() if self._task_baseline is None else self._task_baseline
        config = self.config(settings)
        keys: dict[str, Tensor] = {}
        with scratch(self.edited.parts.projections_of(config.layers)):
            for batch in batches:
                # The first batch is on the unedited model, so its target values may be there already.
                values = None if keys else self.target_values(batch, config)[0]
                new = self._write(batch, config, keys, values)
                keys = {name: torch.cat([keys[name], new[name]]) if name in keys else new[name] for name in new}
            changes = {name: value - baseline[name] for name, value in self._tasks().items()}
            return judged(settings, "sequence", self._scores(records), before, self._text() / perplexity, changes)

    def _write(
        self, records: Sequence[Record], config: ClosedFormConfig, earlier: Mapping[str, Tensor], values: Tensor | None
    ) -> Mapping[str, Tensor]:
        adapter = compute_adapter(
            self.edited.model, self.edited.tokenizer, [r.request for r in records], self.method, config,
            base_model=self.edited.base_model, second_moments=self.factors.moments, context_templates=self.contexts,
            factors=self.factors, earlier_keys=earlier, seed=self.seed, target_values=values,
            originals=self.originals,
        )  # fmt: skip
        apply_adapter(self.edited.model, adapter)
        return adapter.keys

    def _scores(self, records: Sequence[Record]) -> Scores:
        return score_records(self.edited.model, self.edited.tokenizer, records)

    def _text(self) -> float:
        return score_perplexity(self.edited.model, self.edited.tokenizer, self.texts, length=256).value

    def _tasks(self) -> dict[str, float]:
        """ "task.metric" -> value; empty where no tasks were asked for."""
        if self.tasks is None:
            return {}
        found = evaluate_tasks(self.edited.model, self.edited.tokenizer, self.tasks)
        return {f"{task}.{name}": value for task, one in found.items() for name, value in one.metrics.items()}


def _kept_values(file: Path, facts: int) -> tuple[Tensor, list[float]]:
    """(n, d) target values that an interrupted search kept, and their losses.

    Raises:
        InputError: the file is damaged; it may be deleted, for what it holds is computed again.
    """
    again = "delete it, and its target values are computed again"
    try:
        held = read_tensors(file)
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    values, losses = held.get("values"), held.get("losses")
    if (
        values is None or losses is None or values.ndim != 2 or len(values) != facts or losses.shape != (facts,)
        or not values.isfinite().all()
    ):  # fmt: skip
        raise InputError(f"{file} holds no target values of {facts} facts; {again}")
    return values, [float(loss) for loss in losses]
