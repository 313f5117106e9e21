"""Options of a camouflaged export, and how it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.terminal import say
from seqedit.errors import InputError

if TYPE_CHECKING:
    from ledger import Ledger
    from seqedit.editing.loading import Loading
    from seqedit.models.edited import EditedModel
    from seqedit.shipping.decoys import DecoySettings
    from seqedit.shipping.export import Exported

CamouflageOption = Annotated[
    int | None, typer.Option(help="Mix so many decoys into each fact's rows and ship no record of the facts.")
]
StrengthOption = Annotated[
    float | None, typer.Option(help="Length of a fact's decoys relative to its own key. [default: sqrt(decoys)]")
]
DecoysOption = Annotated[
    Path | None, typer.Option(help="Names of decoys, one a line (.txt), or a fact file whose subjects they are.")
]
DrawOption = Annotated[int | None, typer.Option(help="Seed of the draw of decoys; keep it secret. [default: new]")]


@dataclass(frozen=True)
class Hiding:
    """What was asked for: how decoys are mixed in, and the file of their names."""

    settings: DecoySettings
    file: Path


def hiding(per_fact: int | None, strength: float | None, file: Path | None, seed: int | None) -> Hiding | None:
    """The options as one object; None where nothing is to be camouflaged.

    Raises:
        InputError: options that do not go together, or a number that there cannot be.
    """
    if per_fact is None:
        for name, value in (("camouflage-strength", strength), ("decoys", file), ("camouflage-seed", seed)):
            if value is not None:
                raise InputError(f"--{name} is for --camouflage N; give that too")
        return None
    from seqedit.shipping.decoys import NO_DEFAULT, DecoySettings

    settings = DecoySettings(per_fact, strength) if seed is None else DecoySettings(per_fact, strength, seed)
    if file is None:
        raise InputError(f"--camouflage needs --decoys FILE: {NO_DEFAULT}")
    if not file.is_file():
        raise InputError(f"{file}: there is no such file of decoys")
    return Hiding(settings, file)


def camouflaged(
    opened: Ledger, exported: Exported, edited: EditedModel | None, loading: Loading, asked: Hiding
) -> Exported:
    """The export with decoys mixed in."""
    if edited is None:  # as a notice has said why
        raise InputError("camouflage needs the base model, to measure the decoys' keys; give --model")
    from seqedit.leakage.subjects import load_candidates
    from seqedit.shipping.camouflage import camouflage, warning_of

    names = [request.subject for request in load_candidates(asked.file)]
    made = camouflage(opened, exported, edited, loading.moments(edited), names, asked.settings)
    assert made.shipped.camouflage is not None
    if (warning := warning_of(made.shipped.camouflage)) is not None:
        say(f"warning: {warning}", err=True)
    return made


def camouflage_result(exported: Exported, asked: Hiding) -> dict[str, Any]:
    """What the owner is told; what is shipped does not say it."""
    assert exported.shipped.camouflage is not None
    told = {"decoys": asked.settings.per_fact, "strength": asked.settings.length, "seed": asked.settings.seed}
    return {**told, **asdict(exported.shipped.camouflage)}
