"""Training of a hypernetwork (arXiv 2110.11309, section 3.3): seeded, validated, stopped early, resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from seqedit.adapters.adapter import BaseModel
from seqedit.errors import NumericsError
from seqedit.facts.requests import Record
from seqedit.forward.hooks import inference_state
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.methods.mend.checkpoint import CHECKPOINT, State, read_checkpoint, write_checkpoint
from seqedit.methods.mend.config import MendTraining
from seqedit.methods.mend.examples import Case, split, step_cases, tokenize_records, validation_cases
from seqedit.methods.mend.files import Trained, save_hypernetwork, unedited_part
from seqedit.methods.mend.hypernetwork import Hypernetwork
from seqedit.methods.mend.objective import chunks, edit_losses
from seqedit.models.anatomy import Anatomy, anatomy, features
from seqedit.support.digests import json_digest
from seqedit.support.progress import progress_bar

Report = Callable[[dict[str, float]], None]

_RATES = [10 ** (exponent / 2) for exponent in range(-8, 7)]
"""Where an initial alpha is searched, 1e-4 to 1e3."""


def train_hypernetwork(
    model: CausalLM,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    config: MendTraining,
    *,
    base_model: BaseModel,
    out: Path,
    resume: bool = False,
    report: Report | None = None,
    max_tokens: int = 8192,
) -> Trained:
    """Train a hypernetwork and write it to a directory; the model's weights are never touched.

    Loss of an edit: ``edit_weight`` * NLL of its target after the edit, over rewrite and paraphrases, + KL(base ||
    edited) of the next token after its neighbourhood prompts. What is written are the parameters with the lowest
    loss on held-out records, those of the initialisation (plain gradient descent) included.

    Args:
        model: The unedited causal LM.
        tokenizer: Its fast tokenizer.
        records: Records; the last ones are held out.
        config: Settings.
        base_model: Name and fingerprint of the model.
        out: Directory of the two files, and of a checkpoint until they are there.
        resume: Continue from the checkpoint; gives what an uninterrupted training would.
        report: Called with the figures of every validation.
        max_tokens: Padded tokens of one pass.

    Raises:
        InputError: unusable records or layers, or a checkpoint that does not fit.
        NumericsError: a loss or gradient that is not finite.
    """
    parts = anatomy(model)
    layers = parts.check_layers(config.layers)
    training, held_out = split(records, config.validation_share)
    cases = tokenize_records(tokenizer, records)
    validation = validation_cases(cases[len(training) :], config)
    cases = cases[: len(training)]
    shapes = {layer: features(parts.projections[layer].module) for layer in layers}
    network = Hypernetwork(shapes, config.rank, rate=config.edit_rate or 1.0, seed=config.seed)
    network.to(parts.projections[layers[0]].weight.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    identity = {
        "base_model": base_model.fingerprint,
        "records": json_digest([record.to_dict() for record in records]),
        **config.to_dict(),
    }

    def measure(groups: Sequence[Sequence[Case]], scale: float = 1.0) -> dict[str, float]:
        return _figures(model, parts, network, groups, config, scale, max_tokens)

    with inference_state(model):
        if resume:
            state = read_checkpoint(out, network, optimizer, identity)
        else:
            state = State()
            first = step_cases(cases, 0, config)
            _start(network, first, config, measure)
            state.history.append({"step": -1, **measure(validation, scale=0.0)})
            _validate(state, network, measure(validation), report)
            write_checkpoint(out, network, optimizer, state, identity)
        with progress_bar("training", total=config.steps) as bar:
            bar.advance(state.step)
            while state.step < config.steps and state.since_best < config.patience:
                _step(model, parts, network, optimizer, step_cases(cases, state.step, config), config, max_tokens)
                state.step += 1
                bar.advance(1)
                if state.step % config.validate_every == 0 or state.step == config.steps:
                    _validate(state, network, measure(validation), report)
                    write_checkpoint(out, network, optimizer, state, identity)
    network.load_state_dict(state.best_tensors)
    network.requires_grad_(False)
    trained = Trained(
        network,
        base_model,
        unedited_part(parts),
        {layer: parts.projections[layer].name for layer in layers},
        {
            **config.to_dict(),
            "records": len(training),
            "records_digest": identity["records"],
            "steps_taken": state.step,
        },
        _summary(state, len(held_out)),
        str(out),
    )
    save_hypernetwork(out, trained)
    (out / CHECKPOINT).unlink()
    return trained


def _step(
    model: CausalLM,
    parts: Anatomy,
    network: Hypernetwork,
    optimizer: torch.optim.Adam,
    groups: Sequence[Sequence[Case]],
    config: MendTraining,
    max_tokens: int,
) -> None:
    """One Adam step on the mean loss of some groups, whose gradients are accumulated chunk by chunk."""
    edits = sum(map(len, groups))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for chunk in chunks(groups, max_tokens):
        losses = edit_losses(model, parts, network, chunk, observe=True, max_tokens=max_tokens)
        ((config.edit_weight * losses.edit + losses.locality) / edits).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    if not math.isfinite(float(norm)):
        raise NumericsError("the gradient of the training loss is not finite; lower the learning rate or edit_rate")
    optimizer.step()


def _start(
    network: Hypernetwork,
    groups: Sequence[Sequence[Case]],
    config: MendTraining,
    measure: Callable[[Sequence[Sequence[Case]]], dict[str, float]],
) -> None:
    """Give alpha its first value, where none is set: that of the plain gradient step with the lowest loss."""
    if config.edit_rate is not None:
        return
    found = []
    for rate in _RATES:
        with torch.no_grad():
            network.log_rates.fill_(math.log(rate))
        loss = measure(groups)["loss"]
        found.append((loss if math.isfinite(loss) else math.inf, rate))
    with torch.no_grad():
        network.log_rates.fill_(math.log(min(found)[1]))


@torch.no_grad()
def _figures(
    model: CausalLM,
    parts: Anatomy,
    network: Hypernetwork,
    groups: Sequence[Sequence[Case]],
    config: MendTraining,
    scale: float,
    max_tokens: int,
) -> dict[str, float]:
    """Mean losses of some edits: all, of the edit, of locality."""
    edit = locality = 0.0
    edits = sum(map(len, groups))
    for chunk in chunks(groups, max_tokens):
        losses = edit_losses(model, parts, network, chunk, scale=scale, max_tokens=max_tokens)
        edit += float(losses.edit) / edits
        locality += float(losses.locality) / edits
    return {"loss": config.edit_weight * edit + locality, "edit_nll": edit, "locality_kl": locality}


def _validate(state: State, network: Hypernetwork, figures: dict[str, float], report: Report | None) -> None:
    if not math.isfinite(figures["loss"]):
        raise NumericsError("the validation loss is not finite; lower the learning rate or edit_rate")
    row = {"step": state.step, **figures}
    state.history.append(row)
    if figures["loss"] < state.best:
        state.best, state.since_best = figures["loss"], 0
        state.best_tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    else:
        state.since_best += 1
    if report is not None:
        report(row)


def _summary(state: State, records: int) -> dict[str, Any]:
    """Figures of the held-out records: of the unedited model, of plain gradient descent, of what was trained."""
    unedited, untrained, *_ = state.history
    best = min(state.history[1:], key=lambda row: row["loss"])
    without_step = {k: v for k, v in unedited.items() if k != "step"}
    return {"records": records, "unedited": without_step, "untrained": untrained, "trained": best}
