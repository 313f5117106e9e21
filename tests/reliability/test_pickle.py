"""Row 11: pickle is never loaded. A payload that leaves a mark lies wherever the product reads."""

from __future__ import annotations

import ast
import contextlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import evals
import ledger as ledger_package
import seqedit
from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.objects.local import LocalStore
from seqedit.adapters.adapter import Adapter
from seqedit.errors import SeqeditError
from seqedit.methods.mend.files import load_hypernetwork
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from tests.conftest import REFERENCE
from tests.ledger.helpers import MODEL, build_adapter
from tests.reliability.damaged import object_of

SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy")
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_the_payload_does_leave_its_mark_where_it_is_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def surround(directory: Path, payload: bytes) -> None:
    """Put the payload beside every file of a directory under each suffix, and under the usual names of weights."""
    stems = {path.stem for path in directory.iterdir()} | {"pytorch_model", "adapter_model", "model", "training_args"}
    for stem in stems:
        for suffix in SUFFIXES:
            (directory / f"{stem}{suffix}").write_bytes(payload)


def places(tmp_path: Path, payload: bytes) -> dict[str, Callable[[], object]]:
    """Everything that reads weights or tensors, each where the payload lies beside and in the place of its files."""
    found: dict[str, Callable[[], object]] = {}
    build_adapter(1).save_pretrained(tmp_path / "adapter")
    found["adapter directory"] = lambda: Adapter.from_pretrained(tmp_path / "adapter")
    place = tmp_path / "ledger"
    with Ledger.create(place, MODEL) as made:
        made.append(build_adapter(1))
        where = object_of(made, place, "HEAD")

    def read_ledger() -> None:
        with Ledger.open(place) as opened:
            assert opened.verify()
            opened.adapter("HEAD")

    found["object of a ledger"] = read_ledger
    store = LocalStore(place / "objects")
    found["object store"] = lambda: store.manifest(where.name)
    shutil.copytree(REFERENCE / "model", tmp_path / "model")
    found["model directory"] = lambda: load_model(str(tmp_path / "model"))
    shutil.copytree(REFERENCE / "model", tmp_path / "pickled-only")
    for weights in (tmp_path / "pickled-only").glob("*.safetensors*"):
        weights.unlink()
    found["model directory with pickled weights only"] = lambda: load_model(str(tmp_path / "pickled-only"))
    shutil.copytree(tmp_path / "pickled-only", tmp_path / "other-name")
    (tmp_path / "other-name" / "other.safetensors").write_bytes(
        (REFERENCE / "model" / "model.safetensors").read_bytes()
    )
    found["model directory whose safetensors have another name"] = lambda: load_model(str(tmp_path / "other-name"))
    for directory in (
        tmp_path / "other-name",
        tmp_path / "adapter",
        where,
        tmp_path / "model",
        tmp_path / "pickled-only",
    ):
        surround(directory, payload)
    (tmp_path / "moments.safetensors").write_bytes(payload)
    found["second moments"] = lambda: read_second_moments(tmp_path / "moments.safetensors")
    (tmp_path / "mend").mkdir()
    (tmp_path / "mend" / "mend_config.json").write_text("{}")
    (tmp_path / "mend" / "mend.safetensors").write_bytes(payload)
    found["hypernetwork"] = lambda: load_hypernetwork(tmp_path / "mend")
    (tmp_path / "bundle").write_bytes(payload)
    found["bundle"] = lambda: import_bundle(place, tmp_path / "bundle")
    for name in ("adapter_model.safetensors", "seqedit_values.safetensors", "adapter_config.json", "seqedit.json"):
        copy = tmp_path / f"with-{name}"
        build_adapter(1).save_pretrained(copy)
        (copy / name).write_bytes(payload)
        found[f"adapter whose {name} is a pickle"] = lambda copy=copy: Adapter.from_pretrained(copy)
    return found


def _try_all(tmp_path: Path) -> int:
    mark = tmp_path / "mark"
    ways = places(tmp_path, pickle.dumps(Payload(mark)))
    for way, read in ways.items():
        with contextlib.suppress(SeqeditError):
            read()
        assert not mark.exists(), way
    return len(ways)


def test_no_place_that_is_read_loads_a_pickle(tmp_path):
    assert _try_all(tmp_path) == 13


@pytest.mark.slow
@pytest.mark.promise(11)
def test_no_place_that_is_read_loads_a_pickle_and_no_module_knows_how(tmp_path, figure):
    ways = _try_all(tmp_path)
    figure(
        f"{ways} places with {len(SUFFIXES)} suffixes, 0 payloads run; {_modules()} modules, none names a pickle loader"
    )


def test_no_module_of_the_product_names_a_pickle_loader():
    assert _modules() > 100


def _modules() -> int:
    count = 0
    for package in (seqedit, ledger_package, evals):
        assert package.__file__ is not None
        for path in Path(package.__file__).parent.rglob("*.py"):
            count += 1
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    assert not {name.name.split(".")[0] for name in node.names} & FORBIDDEN, path
                elif isinstance(node, ast.ImportFrom):
                    assert (node.module or "").split(".")[0] not in FORBIDDEN, path
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert (node.value.id, node.attr) != ("torch", "load"), path
    return count
