"""MEND (Mitchell et al. 2022, arXiv 2110.11309): a trained network that turns a fact's gradient into an edit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqedit.methods.mend.config import MendTraining as MendTraining
    from seqedit.methods.mend.files import Trained as Trained
    from seqedit.methods.mend.files import load_hypernetwork as load_hypernetwork
    from seqedit.methods.mend.hypernetwork import Hypernetwork as Hypernetwork
    from seqedit.methods.mend.training import train_hypernetwork as train_hypernetwork

_HOMES = {
    "Hypernetwork": "hypernetwork",
    "MendTraining": "config",
    "Trained": "files",
    "load_hypernetwork": "files",
    "train_hypernetwork": "training",
}
"""Public name -> its module here; imported on first use, as the method's settings are to be known without torch."""

__all__ = ["Hypernetwork", "MendTraining", "Trained", "load_hypernetwork", "train_hypernetwork"]

if not TYPE_CHECKING:
    from seqedit.distribution.moved import moved_names

    _moved = moved_names(__name__)  # names of the module that this package was

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return _moved(name)
