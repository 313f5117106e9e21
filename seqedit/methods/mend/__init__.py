"""MEND (Mitchell et al. 2022, arXiv 2110.11309): a trained network that turns a fact's gradient into an edit."""

from __future__ import annotations

from seqedit.methods.mend.config import MendTraining
from seqedit.methods.mend.files import Trained, load_hypernetwork
from seqedit.methods.mend.hypernetwork import Hypernetwork
from seqedit.methods.mend.training import train_hypernetwork

__all__ = ["Hypernetwork", "MendTraining", "Trained", "load_hypernetwork", "train_hypernetwork"]

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # names of the module that this package was
    from seqedit.distribution.moved import moved_names

    __getattr__ = moved_names(__name__)
