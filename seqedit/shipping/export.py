"""A state as something that others load: one stock PEFT adapter, or a full model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.errors import failures
from ledger.reading import Reader
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.card import is_hub_id
from seqedit.adapters.delta import Dense
from seqedit.adapters.files import CARD
from seqedit.adapters.sums import concatenate, truncate
from seqedit.errors import InputError
from seqedit.models.edited import EditedModel
from seqedit.models.quiet import quiet_transformers
from seqedit.shipping.card import Shipped, Truncation, describe, state_card
from seqedit.support import files
from seqedit.support.writing import new_directory


@dataclass(frozen=True, eq=False)
class Exported:
    """An adapter to be shipped.

    Attributes:
        adapter: What is written.
        exact: The same without truncation or camouflage.
        shipped: What its card says.
    """

    adapter: Adapter
    exact: Adapter
    shipped: Shipped


def export_adapter(
    ledger: Reader, rev: str = "HEAD", *, single: bool = False, rank: int | None = None, base_name: str | None = None
) -> Exported:
    """All active adapters of a state as one, or the adapter of one entry.

    Args:
        ledger: The ledger.
        rev: The state; or the entry, with ``single``.
        single: Only this entry's own adapter.
        rank: Truncate every module's delta to this rank; None loses nothing.
        base_name: Name of the base model to write into the adapter; by default one that loads on this machine.

    Raises:
        InputError: no such revision, nothing to export, or a rank below 1.
        CheckFailed: an object is missing or damaged.
    """
    shipped = describe(ledger, rev, single=single, base_name=base_name)
    exact = ledger.adapter(shipped.entries[0]) if single else _whole(ledger, shipped)
    exact = replace(exact, base_model=shipped.base_model)
    if rank is None:
        return Exported(exact, exact, shipped)
    parts = {name: truncate(delta, rank) for name, delta in exact.deltas.items()}
    errors = {name: error for name, (_, error) in parts.items()}
    adapter = replace(
        exact,
        deltas={name: delta for name, (delta, _) in parts.items()},
        method={**exact.method, "truncated_to": rank},
        # The keys and target values were solved for by the exact delta.
        keys={},
        target_values=None,
        residuals={},
        statistics={},
        provenance={**exact.provenance, "truncated_from": exact.digest, "truncation_errors": errors},
    )
    return Exported(adapter, exact, replace(shipped, truncation=Truncation(rank, errors)))


def base_hint(adapter: Adapter) -> str | None:
    """What is to be told of the name that an adapter has for its base model; None for a Hub id.

    Stock PEFT loads the base by it (``AutoPeftModelForCausalLM``), and a path of this machine means nothing on others.
    """
    name = adapter.base_model.name
    if is_hub_id(name) and not Path(name).exists():
        return None
    where = "a path of this machine" if Path(name).exists() else "a path that is not there"
    return f"the adapter names its base model by {where} ({name}): for others give its Hub id with --base-name"


def _whole(ledger: Reader, shipped: Shipped) -> Adapter:
    if not shipped.entries:
        raise InputError(f"state {shipped.rev[:12]} is the unedited model: no adapter is active, nothing to export")
    layout: set[bool] = set()
    told: set[bool] = set()

    def adapters() -> Iterator[Adapter]:
        for adapter in ledger.adapters(shipped.rev):
            layout.add(adapter.fan_in_fan_out)
            told.add(adapter.as_parameters)
            yield adapter

    deltas = concatenate(adapters())
    return Adapter(
        deltas=deltas,
        requests=tuple(shipped.requests),
        method={"name": "export", "methods": sorted({str(e.method.get("name")) for e in shipped.entries})},
        base_model=shipped.base_model,
        fan_in_fan_out=layout == {True},
        as_parameters=True in told,
        provenance={
            "state": shipped.rev,
            "entries": [{"id": e.id, "adapter": e.adapter, "requests": len(e.requests)} for e in shipped.entries],
        },
    )


def write_adapter(
    exported: Exported, out: str | Path, *, place: str | None = None, edited: EditedModel | None = None
) -> None:
    """Write the adapter directory with the state's card, whole or not at all, and read it back.

    Args:
        exported: From `export_adapter`.
        out: Directory that does not exist or is empty.
        place: What the card calls the place it is loaded from.
        edited: The loaded base model, which stock PEFT is to load the adapter into; left unedited. None compares the
            file alone.

    Raises:
        InputError: ``out`` is not empty.
        CheckFailed: what was written is not what was to be.
        EnvironmentFailure: the disk failed.
    """
    from seqedit.shipping.readback import check_adapter, check_adapter_file

    with exported_to(out) as directory:
        exported.adapter.save_pretrained(directory)
        check_adapter_file(directory, exported.adapter)
        if edited is not None:
            check_base(exported.adapter.base_model, edited.base_model)
            check_adapter(directory, exported.adapter, edited, exported.exact.requests)
        (directory / CARD).write_text(state_card(exported.shipped, place=place or Path(out).name), "utf-8")


def write_merged(
    ledger: Reader, rev: str, edited: EditedModel, out: str | Path, *, base_name: str | None = None
) -> None:
    """Write the full model with a state's weights, as `save_pretrained` does, with tokenizer and card; then load it.

    Args:
        ledger: The ledger.
        rev: The state.
        edited: The loaded base model; left in the state that was written.
        out: Directory that does not exist or is empty.
        base_name: What the card calls the base model.

    Raises:
        InputError: the model is not the ledger's base model, or ``out`` is not empty.
        CheckFailed: what was written is not what was to be.
        EnvironmentFailure: the disk failed.
    """
    from seqedit.shipping.readback import check_merged

    check_base(ledger.base_model, edited.base_model)
    shipped = describe(ledger, rev, base_name=base_name)
    check_new(out)
    modules = sorted({name for adapter in ledger.adapters(shipped.rev) for name in adapter.deltas})
    edited.write(ledger.compose(edited.base_weights(modules), shipped.rev) if modules else {})
    with exported_to(out) as directory:
        with quiet_transformers():
            edited.model.save_pretrained(directory)
            edited.tokenizer.save_pretrained(directory)
        check_merged(directory, edited, shipped.requests)
        (directory / CARD).write_text(state_card(shipped, merged=True, place=Path(out).name), "utf-8")


def check_base(expected: BaseModel, found: BaseModel) -> None:
    """Refuse a model that is not the ledger's base model.

    Raises:
        InputError: names both.
    """
    if expected.fingerprint != found.fingerprint:
        raise InputError(
            f"the ledger belongs to base model '{expected.name}' (fingerprint {expected.fingerprint[:12]}), the model "
            f"'{found.name}' has {found.fingerprint[:12]}; give the ledger's own with --model, in its own dtype"
        )


def check_new(out: str | Path) -> None:
    """Refuse a place that holds something, or is a link, which a finished directory cannot be put in the place of.

    Raises:
        InputError: it exists and is not an empty directory.
    """
    if Path(out).is_symlink():
        raise InputError(f"{out} exists and is not an empty directory; choose another --out")
    files.check_new(out)


@contextmanager
def exported_to(out: str | Path) -> Iterator[Path]:
    """A new directory that appears at ``out`` whole or not at all; a failing disk is the environment's failure."""
    check_new(out)
    with failures(str(out)), new_directory(out) as directory:
        yield directory


def adapter_size(adapter: Adapter) -> tuple[int, int]:
    """(uniform rank, bytes of the weights file) that an adapter has when it is written."""
    rank = max(delta.rank for delta in adapter.deltas.values())
    return rank, sum(4 * rank * sum(delta.shape) for delta in adapter.deltas.values())


def kinds(adapter: Adapter) -> dict[str, str]:
    """Module name -> "dense" or "rank N"."""
    return {n: "dense" if isinstance(d, Dense) else f"rank {d.rank}" for n, d in sorted(adapter.deltas.items())}
