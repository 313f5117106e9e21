"""Sequential knowledge editing with adapters, a ledger and evaluations.

The names most users need are here; they are imported on first use, so that ``import seqedit`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqedit.distribution.import_names import check_import_names
from seqedit.distribution.moved import install
from seqedit.version import __version__

install()

if TYPE_CHECKING:
    from ledger.errors import BranchMoved as BranchMoved
    from ledger.history.entries import Entry as Entry
    from ledger.ledger import Ledger as Ledger
    from seqedit.adapters.adapter import Adapter as Adapter
    from seqedit.adapters.base import BaseModel as BaseModel
    from seqedit.editing.compute import apply_adapter as apply_adapter
    from seqedit.editing.compute import compute_adapter as compute_adapter
    from seqedit.editing.settings import method_config as method_config
    from seqedit.editing.settings import preset_names as preset_names
    from seqedit.errors import CheckFailed as CheckFailed
    from seqedit.errors import EnvironmentFailure as EnvironmentFailure
    from seqedit.errors import InputError as InputError
    from seqedit.errors import ModelError as ModelError
    from seqedit.errors import NumericsError as NumericsError
    from seqedit.errors import RequestError as RequestError
    from seqedit.errors import SeqeditError as SeqeditError
    from seqedit.facts.loading import load_records as load_records
    from seqedit.facts.requests import Record as Record
    from seqedit.facts.requests import Request as Request
    from seqedit.library.session import Session as Session
    from seqedit.methods import get_method as get_method
    from seqedit.methods import method_names as method_names
    from seqedit.methods.alphaedit import AlphaEditConfig as AlphaEditConfig
    from seqedit.methods.config import ClosedFormConfig as ClosedFormConfig
    from seqedit.methods.config import EditConfig as EditConfig
    from seqedit.methods.emmet import EmmetConfig as EmmetConfig
    from seqedit.methods.evoedit import EvoEditConfig as EvoEditConfig
    from seqedit.methods.ft import FtConfig as FtConfig
    from seqedit.methods.lora import LoraEditConfig as LoraEditConfig
    from seqedit.methods.memit import MemitConfig as MemitConfig
    from seqedit.methods.pmet import PmetConfig as PmetConfig
    from seqedit.methods.rome import RomeConfig as RomeConfig
    from seqedit.methods.ultraedit.method import UltraEditConfig as UltraEditConfig
    from seqedit.models.anatomy import anatomy as anatomy
    from seqedit.models.edited import EditedModel as EditedModel
    from seqedit.models.loading import load_model as load_model
    from seqedit.moments.second_moments import SecondMoments as SecondMoments
    from seqedit.moments.store import read_second_moments as read_second_moments
    from seqedit.runs.callbacks import Callback as Callback
    from seqedit.runs.config import RunConfig as RunConfig
    from seqedit.runs.config import read_run_config as read_run_config
    from seqedit.runs.runner import run as run
    from seqedit.scoring.settings import EvalSettings as EvalSettings
    from seqedit.session.evaluate import StateScores as StateScores

_HOMES = {
    "BranchMoved": "ledger.errors",
    "Entry": "ledger.history.entries",
    "Ledger": "ledger.ledger",
    "Adapter": "seqedit.adapters.adapter",
    "BaseModel": "seqedit.adapters.base",
    "apply_adapter": "seqedit.editing.compute",
    "compute_adapter": "seqedit.editing.compute",
    "method_config": "seqedit.editing.settings",
    "preset_names": "seqedit.editing.settings",
    "CheckFailed": "seqedit.errors",
    "EnvironmentFailure": "seqedit.errors",
    "InputError": "seqedit.errors",
    "ModelError": "seqedit.errors",
    "NumericsError": "seqedit.errors",
    "RequestError": "seqedit.errors",
    "SeqeditError": "seqedit.errors",
    "load_records": "seqedit.facts.loading",
    "Record": "seqedit.facts.requests",
    "Request": "seqedit.facts.requests",
    "Session": "seqedit.library.session",
    "get_method": "seqedit.methods",
    "method_names": "seqedit.methods",
    "AlphaEditConfig": "seqedit.methods.alphaedit",
    "ClosedFormConfig": "seqedit.methods.config",
    "EditConfig": "seqedit.methods.config",
    "EmmetConfig": "seqedit.methods.emmet",
    "EvoEditConfig": "seqedit.methods.evoedit",
    "FtConfig": "seqedit.methods.ft",
    "LoraEditConfig": "seqedit.methods.lora",
    "MemitConfig": "seqedit.methods.memit",
    "PmetConfig": "seqedit.methods.pmet",
    "RomeConfig": "seqedit.methods.rome",
    "UltraEditConfig": "seqedit.methods.ultraedit.method",
    "anatomy": "seqedit.models.anatomy",
    "EditedModel": "seqedit.models.edited",
    "load_model": "seqedit.models.loading",
    "SecondMoments": "seqedit.moments.second_moments",
    "read_second_moments": "seqedit.moments.store",
    "Callback": "seqedit.runs.callbacks",
    "RunConfig": "seqedit.runs.config",
    "read_run_config": "seqedit.runs.config",
    "run": "seqedit.runs.runner",
    "EvalSettings": "seqedit.scoring.settings",
    "StateScores": "seqedit.session.evaluate",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'seqedit' has no attribute {name!r}")
    check_import_names()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
