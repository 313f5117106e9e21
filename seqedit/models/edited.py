"""A model whose weights follow the ledger: base plus the active deltas, recomposed, never subtracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.composition import compose
from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import anatomy
from seqedit.models.fingerprint import base_model_of
from seqedit.models.gate import check_usable


class EditedModel:
    """A loaded, unedited model and the copies of base weights that composing needs.

    Attributes:
        model: The causal LM, whose weights `write` changes.
        tokenizer: Its tokenizer.
        base_model: Name and fingerprint of the unedited weights.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer, name: str | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.parts = anatomy(model)
        check_usable(model, tokenizer, name or type(model).__name__)
        found = base_model_of(model)
        self.base_model = BaseModel(name or found.name, found.fingerprint)
        self._by_name = {p.name: p for p in self.parts.projections}
        self._base: dict[str, Tensor] = {}

    @property
    def base(self) -> Mapping[str, Tensor]:
        """Unedited (d_out, d_in) weights of all FFN output projections, copied when they are first asked for."""
        return _BaseWeights(self)

    def base_weights(self, modules: list[str]) -> dict[str, Tensor]:
        """Unedited (d_out, d_in) weights of some modules, copied the first time they are asked for.

        Raises:
            InputError: names a module that the model does not have.
        """
        for name in modules:
            if name not in self._by_name:
                raise InputError(f"the model has no FFN output projection '{name}'; the adapter is for another model")
            if name not in self._base:
                self._base[name] = self._by_name[name].matrix().clone()
        return {name: self._base[name] for name in modules}

    def check(self, adapters: Iterable[Adapter]) -> None:
        """Refuse adapters that were made for other base weights.

        Raises:
            InputError: names both models.
        """
        for adapter in adapters:
            if adapter.base_model.fingerprint != self.base_model.fingerprint:
                raise InputError(
                    f"adapter {adapter.digest[:12]} was made for '{adapter.base_model.name}' (fingerprint "
                    f"{adapter.base_model.fingerprint[:12]}), the model '{self.base_model.name}' has "
                    f"{self.base_model.fingerprint[:12]}"
                )

    def apply(self, adapters: Iterable[Adapter]) -> None:
        """Make the model the state of the base and some adapters, composed in this order; of none, the base.

        Raises:
            InputError: names an adapter's module that the model does not have, or whose shape is another.
            NumericsError: a composed weight overflows its dtype.
        """
        listed = list(adapters)
        modules = sorted({name for adapter in listed for name in adapter.deltas})
        self.write(compose(self.base_weights(modules), listed) if modules else {})

    @contextmanager
    def unedited(self) -> Iterator[None]:
        """Give the model its base weights for a while; those it had come back, bit for bit."""
        held = {name: self._by_name[name].matrix().clone() for name in self._base}  # no other module was written
        self.write({})
        try:
            yield
        finally:
            for name, weight in held.items():
                self._by_name[name].write(weight)

    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Make the model the state whose composed weights are given; everything else goes back to the base."""
        self.base_weights(list(weights))
        for name, base in self._base.items():
            self._by_name[name].write(weights.get(name, base))


class _BaseWeights(Mapping[str, Tensor]):
    def __init__(self, edited: EditedModel) -> None:
        self._edited = edited
        self._names = [projection.name for projection in edited.parts.projections]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        return self._edited.base_weights([name])[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
