"""The adapter: one batch of edits as a directory that stock PEFT loads.

``adapter_config.json`` and ``adapter_model.safetensors`` are a plain LoRA checkpoint; ``README.md`` is its model
card. What PEFT has no place for is in two files beside them: ``seqedit.json`` (requests, method configuration,
provenance, digest) and ``seqedit_values.safetensors`` (the keys and target values that were solved for).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from seqedit.adapters import check, files
from seqedit.adapters.base import BaseModel as BaseModel
from seqedit.adapters.card import is_hub_id
from seqedit.adapters.delta import Delta, Dense, LowRank, is_finite, is_identity
from seqedit.adapters.file_names import FORMAT_VERSION as FORMAT_VERSION
from seqedit.adapters.file_names import FORMATS, FRAMED_FORMAT, RESIDUALS_FORMAT
from seqedit.adapters.hub import fetch_adapter, push_adapter
from seqedit.adapters.sidecar import check_config, check_sidecar, read_json
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.support.digests import json_digest, tensor_digest
from seqedit.support.files import check_new


@dataclass(frozen=True, eq=False)
class Adapter:
    """A batch of edits, materialised.

    Attributes:
        deltas: Module name -> weight delta in canonical orientation (d_out, d_in).
        requests: What was edited.
        method: Method name and every configuration field, as JSON types.
        base_model: What it was computed for.
        keys: Module name -> (n, d_in) float32, the averaged keys that were solved for.
        target_values: (n, d) float32, the hidden states to be produced at the last edited layer (the first with
            spread ``replay``), or None.
        fan_in_fan_out: True where the modules store their weights as (d_in, d_out) (GPT-2's Conv1D).
        as_parameters: True where PEFT has to be told weights, not modules: in some mixtures of experts it takes every
            module of such a name for the routed experts.
        provenance: Context templates, seed, digests of second moments, library versions; JSON types.
        residuals: Module name -> (n, d_out) float32, what all updates together are to write at the keys, relative to
            the weights that the sequence began with (`seqedit.solver.sequence`); empty unless solved in sequence.
        statistics: Module name -> (3, d_in + d_out) float32, statistics of the batch's rows, which later batches are
            normalised by as well (`seqedit.methods.ultraedit.statistics`); empty for other methods.
    """

    deltas: Mapping[str, Delta]
    requests: tuple[Request, ...]
    method: Mapping[str, Any]
    base_model: BaseModel
    keys: Mapping[str, Tensor] = field(default_factory=dict)
    target_values: Tensor | None = None
    fan_in_fan_out: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    as_parameters: bool = False
    residuals: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.deltas:
            raise InputError("an adapter needs the delta of at least one module")
        for name, residuals in self.residuals.items():
            if name not in self.deltas or name not in self.keys:
                raise InputError(f"the residuals of module '{name}' need a delta and keys beside them")
            if not len(residuals) == len(self.keys[name]) == len(self.requests):
                raise InputError(f"the residuals of module '{name}' must be as many as its keys and the requests")
            if residuals.shape[1] != self.deltas[name].shape[0]:
                raise InputError(
                    f"the residuals of module '{name}' are not of its {self.deltas[name].shape[0]} outputs"
                )
        for name, statistics in self.statistics.items():
            shape = (3, sum(self.deltas[name].shape)) if name in self.deltas else None
            if tuple(statistics.shape) != shape:
                raise InputError(f"the statistics of module '{name}' are {tuple(statistics.shape)}, not {shape}")
        for name, delta in self.deltas.items():
            parts = (delta.B, delta.A) if isinstance(delta, LowRank) else (delta.delta,)
            if not all(is_finite(part) for part in parts):
                raise InputError(f"the delta of module '{name}' holds values that are not finite")
        # The digest cannot tell B = I from a dense delta, so neither may the state: both are the dense one.
        dense = {n: Dense(d.A) for n, d in self.deltas.items() if isinstance(d, LowRank) and is_identity(d.B)}
        if dense:
            object.__setattr__(self, "deltas", {**self.deltas, **dense})

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical content; where the base model was loaded from does not count."""
        return json_digest(
            {
                "format": self.format,
                "requests": [request.to_dict() for request in self.requests],
                "method": dict(self.method),
                "base_model": self.base_model.fingerprint,
                "fan_in_fan_out": self.fan_in_fan_out,
                **({"as_parameters": True} if self.as_parameters else {}),
                "provenance": dict(self.provenance),
                "tensors": sorted((name, tensor_digest(t)) for name, t in self._tensors().items()),
            }
        )

    @property
    def format(self) -> int:
        """The format it is written in: the first that has room for its requests, residuals and statistics."""
        framed = any(request.framed for request in self.requests)
        return FRAMED_FORMAT if framed else RESIDUALS_FORMAT if self.residuals or self.statistics else FORMAT_VERSION

    def _tensors(self) -> dict[str, Tensor]:
        return {
            **files.lora_tensors(self.deltas, pad=False),
            **self._values(),
        }

    def _values(self) -> dict[str, Tensor]:
        return files.value_tensors(self.keys, self.target_values, self.residuals, self.statistics)

    def _sidecar(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "digest": self.digest,
            "base_model": {"name": self.base_model.name, "fingerprint": self.base_model.fingerprint},
            "method": dict(self.method),
            "modules": {
                name: {"kind": "dense" if isinstance(d, Dense) else "low_rank", "rank": d.rank}
                for name, d in sorted(self.deltas.items())
            },
            "provenance": dict(self.provenance),
            "requests": [request.to_dict() for request in self.requests],
        }

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the adapter directory; equal content gives equal bytes.

        Raises:
            InputError: if the directory exists and is not empty.
        """
        target = Path(directory)
        check_new(target)
        target.mkdir(parents=True, exist_ok=True)
        files.write_tensors(target / files.VALUES, self._values())
        files.write_json(target / files.SIDECAR, self._sidecar())
        files.write_tensors(target / files.WEIGHTS, files.lora_tensors(self.deltas, pad=True))
        files.write_json(
            target / files.CONFIG,
            files.lora_config(self.deltas, self.base_model.name, self.fan_in_fan_out, self.as_parameters),
        )
        (target / files.CARD).write_text(files.model_card(self.base_model.name, self.method, self.requests), "utf-8")

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        revision: str | None = None,
        message: str | None = None,
    ) -> str:
        """Put the adapter into a Hub repository, as one commit; stock PEFT loads it from there.

        Args:
            repository: Id, such as ``me/edits``; made where there is none.
            private: Whether a repository that is made is private.
            revision: Branch of the repository; made where there is none.
            message: Message of the commit.

        Returns:
            Address of the commit.

        Raises:
            InputError: not logged in, no access, or the base model is known by a local path.
            EnvironmentFailure: the Hub cannot be reached.
        """
        if not is_hub_id(self.base_model.name):
            raise InputError(
                f"the base model is known here as '{self.base_model.name}', which means nothing to others; load it by "
                "its Hub id"
            )
        return push_adapter(self.save_pretrained, repository, private=private, revision=revision, message=message)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        revision: str | None = None,
        check_digest: bool = True,
        check_derived: bool = True,
    ) -> Adapter:
        """Read an adapter directory written by `save_pretrained`, or one on the Hub.

        Args:
            directory: Local adapter directory; or the id of a Hub repository such as ``me/edits``, as a string, where
                there is no such directory.
            revision: Branch, tag or commit of the repository.
            check_digest: Compare the content with the digest it was saved under.
            check_derived: Also compare what the digest does not cover, and stock PEFT reads, with what follows from
                the content. Without it only the returned adapter can be trusted, not the files.

        Raises:
            InputError: names the file that is missing, malformed or altered; or there is no such repository.
            EnvironmentFailure: the Hub cannot be reached.
        """
        source = Path(directory)
        if isinstance(directory, str) and directory.count("/") == 1 and not source.exists() and is_hub_id(directory):
            source = fetch_adapter(directory, revision=revision)
        sidecar = read_json(source / files.SIDECAR)
        if type(sidecar.get("format")) is not int or sidecar["format"] not in FORMATS:
            raise InputError(
                f"{source / files.SIDECAR}: format {sidecar.get('format')!r} is unknown to this version (it knows "
                f"{' and '.join(map(str, FORMATS))}); install a newer seqedit"
            )
        config = read_json(source / files.CONFIG)
        for file, check_types, content in (
            (files.SIDECAR, check_sidecar, sidecar), (files.CONFIG, check_config, config),
        ):  # fmt: skip
            try:
                check_types(content)
            except InputError as error:
                raise InputError(f"{source / file}: {error}") from error
        weights = files.read_tensors(source / files.WEIGHTS)
        values = files.read_tensors(source / files.VALUES)
        files.check_values(values)
        try:
            adapter = cls(
                deltas=files.deltas_from_lora(weights, sidecar["modules"]),
                requests=tuple(Request.from_dict(r) for r in sidecar["requests"]),
                method=sidecar["method"],
                base_model=BaseModel(**sidecar["base_model"]),
                keys={k.removeprefix("keys."): v for k, v in values.items() if k.startswith("keys.")},
                target_values=values.get("target_values"),
                fan_in_fan_out=bool(config.get("fan_in_fan_out", False)),
                as_parameters=bool(config.get("target_parameters")),
                provenance=sidecar["provenance"],
                residuals={k.removeprefix("residuals."): v for k, v in values.items() if k.startswith("residuals.")},
                statistics={k.removeprefix("statistics."): v for k, v in values.items() if k.startswith("statistics.")},
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{source / files.SIDECAR}: malformed ({error})") from error
        if adapter.format != sidecar["format"]:
            raise InputError(
                f"{source / files.SIDECAR}: format {sidecar['format']} is not that of its requests ({adapter.format}), "
                "or unknown to this version; it was altered, or install a newer seqedit"
            )
        if check_digest and adapter.digest != sidecar["digest"]:
            raise InputError(
                f"{source}: the content does not match its digest {sidecar['digest'][:12]}; it was altered"
            )
        if check_digest and check_derived:
            try:
                check.check_config(
                    config,
                    files.lora_config(
                        adapter.deltas, adapter.base_model.name, adapter.fan_in_fan_out, adapter.as_parameters
                    ),
                )
                check.check_weights(weights, adapter.deltas)
                check.check_values(values, adapter._values())
                check.check_sidecar(sidecar, adapter._sidecar())
            except InputError as error:
                raise InputError(f"{source}: {error}; it was altered") from error
        return adapter
