"""What a state of a ledger holds of a joint sequence (`seqedit.solver.sequence`), and its joint solution.

Every adapter of a joint sequence keeps its facts' keys and residuals, so that the joint solution of any choice of the
facts in force can be had from the ledger and the second moments alone: no prompt runs through the model again. Removal
(`seqedit.history.removal`) leaves some facts out of it, a compaction writes it as one entry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqedit.adapters.delta import LowRank
from seqedit.editing.compute import protects_earlier, solves_jointly
from seqedit.editing.editor import keys_of
from seqedit.errors import InputError
from seqedit.methods.config import ClosedFormConfig
from seqedit.session.entries import method_of
from seqedit.solver.preconditioners import Preconditioner, protect
from seqedit.solver.sequence import Held, joint_factors

if TYPE_CHECKING:
    from ledger.history.entries import Entry
    from ledger.ledger import Ledger
    from seqedit.adapters.adapter import Adapter
    from seqedit.editing.editor import Editor

Fact = tuple[str, int]
"""A request: id of its entry, and its position there."""


@dataclass(frozen=True, eq=False)
class JointState:
    """The entries in force of a state with their adapters.

    Attributes:
        state: Id of the entry that leads to it.
        entries: In composing order; those outside of the sequence among them.
        adapters: Their adapters.
    """

    state: str
    entries: tuple[Entry, ...]
    adapters: tuple[Adapter, ...]

    @classmethod
    def read(cls, ledger: Ledger, rev: str = "HEAD") -> JointState:
        """The state of a revision."""
        state = ledger.resolve(rev)
        entries = tuple(ledger.active(state))
        return cls(state, entries, tuple(ledger.adapter(entry) for entry in entries))

    @property
    def sequence(self) -> tuple[Entry, ...]:
        """The entries of the joint sequence: those whose adapters keep residuals."""
        return tuple(e for e, one in zip(self.entries, self.adapters, strict=True) if one.residuals)

    @property
    def outside(self) -> tuple[Entry, ...]:
        """The others: what they wrote belongs to the weights that the sequence begins with."""
        return tuple(e for e, one in zip(self.entries, self.adapters, strict=True) if not one.residuals)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that the sequence writes."""
        return tuple(dict.fromkeys(name for one in self.adapters for name in one.residuals))

    def settings(self) -> tuple[str, ClosedFormConfig]:
        """Method and settings of the newest entry of the sequence: their C is that of the state's joint solution.

        Raises:
            InputError: there is no entry of a joint sequence; says what made those there are.
        """
        for entry in reversed(self.sequence):
            method, config = method_of(entry)
            if isinstance(config, ClosedFormConfig) and solves_jointly(config):
                return method, config
        raise InputError(
            "no entry in force was solved in a joint sequence (setting sequence: joint), so no keys and residuals are "
            "stored to solve from"
        )

    def facts(self, module: str, left_out: Collection[Fact] = ()) -> list[Fact]:
        """The facts in force of a module, in the order of the rows of `held`."""
        live = self.live(left_out)
        named = zip(self.entries, self.adapters, live, strict=True)
        return [(e.id, i) for e, one, positions in named if module in one.residuals for i in positions]

    def live(self, left_out: Collection[Fact] = ()) -> list[list[int]]:
        """Of every entry the positions of its facts in force: of a fact that was edited more than once, the last.

        Args:
            left_out: Facts that are taken for never edited; what they superseded is in force again.
        """
        gone = set(left_out)
        last = {
            request.fact: (entry.id, i)
            for entry, one in zip(self.entries, self.adapters, strict=True)
            for i, request in enumerate(one.requests)
            if (entry.id, i) not in gone
        }
        return [
            [i for i, request in enumerate(one.requests) if last.get(request.fact) == (entry.id, i)]
            for entry, one in zip(self.entries, self.adapters, strict=True)
        ]

    def held(self, left_out: Collection[Fact] = (), unwritten: Collection[str] = ()) -> dict[str, Held]:
        """Module name -> what is in force of the sequence, as `seqedit.editing.editor.held_of` has it.

        Args:
            left_out: Facts that leave the sums (`live`).
            unwritten: Ids of entries whose updates are taken out of the weights; their facts stay, if not left out.
        """
        live, found = self.live(left_out), {}
        for name in self.modules:
            keys, residuals, written = [], [], []
            for entry, one, positions in zip(self.entries, self.adapters, live, strict=True):
                if name not in one.residuals:
                    continue
                keys.append(one.keys[name][positions])
                residuals.append(one.residuals[name][positions])
                if entry.id not in unwritten:
                    delta = one.deltas[name]
                    written.append((delta.B, delta.A) if isinstance(delta, LowRank) else delta.delta)
            found[name] = Held(torch.cat(keys), torch.cat(residuals), tuple(written))
        return found

    def protected(self, config: ClosedFormConfig) -> dict[str, Tensor]:
        """Module name -> (N, d_in) keys of entries outside of the sequence that its C takes in besides, if any."""
        return keys_of(one for one in self.adapters if not one.residuals) if protects_earlier(config) else {}


@dataclass(frozen=True, eq=False)
class JointSolve:
    """The joint solution of some facts at one module.

    Attributes:
        module: Its name.
        held: The facts, and what is written (`JointState.held`), on the device of the layer.
        a: Relaxation.
        inner: C^-1 without the facts' keys.
        precondition: (C + K K^T / a)^-1 with them, as `seqedit.solver.sequence` takes it.
    """

    module: str
    held: Held
    a: float
    inner: Preconditioner
    precondition: Preconditioner

    def factors(self) -> tuple[Tensor, Tensor]:
        """J: (d_out, N) and (N, d_in), float64."""
        return joint_factors(self.precondition, self.held, self.a)


def joint_solves(
    editor: Editor, state: JointState, method: str, config: ClosedFormConfig, held: Mapping[str, Held]
) -> list[JointSolve]:
    """What solves for the facts in force, module by module.

    Args:
        editor: Model and second moments.
        state: The state.
        method: Name of the method whose C it is.
        config: Its settings.
        held: What is held of some modules (`JointState.held`).

    Raises:
        InputError: a module that the model does not have, or second moments are needed and there are none.
    """
    projections = {p.name: p for p in editor.edited.parts.projections}
    besides = state.protected(config)
    found = []
    for name, one in held.items():
        if name not in projections:
            raise InputError(f"the model has no FFN output projection '{name}', which the state's adapters edit")
        inner = editor.preconditioner(method, config, projections[name])
        if inner is None:
            raise InputError(f"method '{method}' is no closed form")
        device = _float64_device(projections[name].weight.device)
        here = one.to(device)
        also = besides.get(name)
        base = protect(inner, None if also is None else also.double().to(device).T)
        found.append(JointSolve(
            name, here, config.a, base, protect(inner, _stacked(here.weighed_keys(config.a), also).T)
        ))  # fmt: skip
    return found


def _stacked(keys: Tensor, also: Tensor | None) -> Tensor:
    return keys if also is None else torch.cat([keys, also.double().to(keys.device)])


def _float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device
