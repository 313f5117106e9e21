"""Adapters and bundles that anyone may have made: typed errors that name file and field, no more memory than size."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit.adapters import files
from seqedit.adapters.adapter import Adapter
from seqedit.errors import CheckFailed, InputError
from tests.ledger.bundles.test_bundle import members_of, rebuilt
from tests.ledger.helpers import MODEL, build_adapter

P = "base_model.model."
VALUES = [
    "null", "true", "-1", "0", "1.5", "1e400", "-1e400", "NaN", "Infinity", '"abc"', '""', "[]", "{}", "[1]", '{"a":1}',
    '"\\ud800"', '"\\u0000"', "[[]]", "1" + "0" * 5000, "10000000000", "-5", '"2"', '[["a",1]]', '{"":{}}',
    "[" * 3000 + "]" * 3000, "[" * 400 + "]" * 400, '{"\\udfff":1}',
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_adapter(1).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutations(document: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every field with another value, missing, and with another beside it; as texts."""
    for path in places(document):
        for value in VALUES:
            yield path, json.dumps(changed(document, path, "@@")).replace('"@@"', value)
        if path:
            yield path, json.dumps(changed(document, path, None, drop=True))
            if isinstance(path[-1], str):
                yield path, json.dumps(changed(document, (*path[:-1], "extra"), 1))


def changed(document: Any, path: tuple[Any, ...], value: Any, *, drop: bool = False) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    at = document
    for key in path[:-1]:
        at = at[key]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return document


def check_mutations(folder: Path, wanted: int | None) -> None:
    tried, refused = 0, 0
    for name in (files.SIDECAR, files.CONFIG):
        original = (folder / name).read_text("utf-8")
        found = list(mutations(json.loads(original)))
        for path, text in found if wanted is None else random.Random(0).sample(found, wanted):
            (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
            tried += 1
            said = None
            try:
                Adapter.from_pretrained(folder)
            except InputError as error:  # and no other
                said = str(error)
                refused += 1
            assert said is None or str(folder) in said or name in said, (name, path, said)
        (folder / name).write_text(original, "utf-8")
    assert tried / 2 < refused < tried
    Adapter.from_pretrained(folder)


def test_a_sidecar_with_any_field_changed_is_read_or_refused_by_name(folder: Path) -> None:
    check_mutations(folder, 150)


@pytest.mark.slow
def test_a_sidecar_with_every_field_changed_in_every_way_is_read_or_refused_by_name(folder: Path) -> None:
    check_mutations(folder, None)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("digest",), 5, "'digest'"),
        (("digest",), "abc", "'digest'"),
        (("base_model", "fingerprint"), None, "'base_model.fingerprint'"),
        (("base_model",), [], "'base_model'"),
        (("modules",), [], "'modules'"),
        (("modules", "h.0.mlp"), 1, "'modules.h.0.mlp'"),
        (("modules", "h.0.mlp", "rank"), True, "'modules.h.0.mlp.rank'"),
        (("modules", "h.0.mlp", "rank"), 10**30, "'modules.h.0.mlp.rank'"),
        (("modules", "h.0.mlp", "kind"), "sparse", "'modules.h.0.mlp.kind'"),
        (("method",), [], "'method'"),
        (("provenance",), "x", "'provenance'"),
        (("requests",), {}, "'requests'"),
        (("requests", 0), "x", "'requests.0'"),
        (("requests", 0, "subject"), 3, "'requests.0': request: field 'subject'"),
    ],
)
def test_the_field_of_another_type_is_named(path: tuple[Any, ...], value: Any, named: str, folder: Path) -> None:
    place = folder / files.SIDECAR
    place.write_text(json.dumps(changed(json.loads(place.read_text()), path, value)))
    with pytest.raises(InputError) as raised:
        Adapter.from_pretrained(folder)
    assert str(place) in str(raised.value)
    assert named in str(raised.value)


def test_a_sidecar_in_a_bundle_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "source", MODEL) as ledger:
        ledger.append(build_adapter(1))
        write_bundle(ledger, plan_bundle(ledger), tmp_path / "good.zip")
    members = members_of(tmp_path / "good.zip")
    name = next(member for member in members if member.endswith(files.SIDECAR))
    found = list(mutations(json.loads(members[name])))
    refused = 0
    for _, text in random.Random(1).sample(found, 60):
        bad = rebuilt({**members, name: text.encode("utf-8", "surrogatepass")}, tmp_path / "bad.zip")
        try:
            import_bundle(tmp_path / "new", bad, dry_run=True)
        except CheckFailed:
            refused += 1
            with pytest.raises(CheckFailed):
                import_bundle(tmp_path / "new", bad)
            assert not (tmp_path / "new").exists()
        bad.unlink()
    assert refused > 30


def rewrite(folder: Path, tensors: dict[str, torch.Tensor], modules: dict[str, dict[str, Any]]) -> int:
    """Other weights and modules; how many bytes the directory has."""
    (folder / files.WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    place = folder / files.SIDECAR
    place.write_text(json.dumps({**json.loads(place.read_text()), "modules": modules}))
    return sum(path.stat().st_size for path in folder.iterdir())


def factors(name: str, b: tuple[int, ...], a: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"{P}{name}.lora_A.weight": torch.zeros(a), f"{P}{name}.lora_B.weight": torch.zeros(b)}


N = 20_000
BOMBS = {
    "an identity that is not there": (factors("m", (0, N), (N, 1)), {"m": {"kind": "dense", "rank": N}}),
    "an identity of few rows": (factors("m", (1, N), (N, 1)), {"m": {"kind": "dense", "rank": N}}),
    "padding that is not there": (
        {**factors("x", (1, N), (N, 1)), **factors("y", (N, 1), (1, N))},
        {"x": {"kind": "low_rank", "rank": N}, "y": {"kind": "low_rank", "rank": 1}},
    ),
    "factors without an inside": (factors("m", (N, 0), (0, N)), {"m": {"kind": "low_rank", "rank": 0}}),
    "factors without an outside": (factors("m", (0, N), (N, 0)), {"m": {"kind": "low_rank", "rank": N}}),
    "a rank larger than the factors": (factors("m", (1, 2), (2, 1)), {"m": {"kind": "low_rank", "rank": N}}),
    "no matrices": (factors("m", (N,), (N,)), {"m": {"kind": "low_rank", "rank": N}}),
}


@pytest.mark.parametrize(("tensors", "modules"), BOMBS.values(), ids=BOMBS)
def test_weights_that_would_unpack_to_more_than_their_size_are_refused_by_file_and_module(
    tensors: dict[str, torch.Tensor], modules: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(folder, tensors, modules)

    def forbidden(*_: Any, **__: Any) -> torch.Tensor:
        raise AssertionError("something was unpacked")

    monkeypatch.setattr(torch, "eye", forbidden)
    monkeypatch.setattr(torch.nn.functional, "pad", forbidden)
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*'[my]'|seqedit\.json.*modules\.m"):
        Adapter.from_pretrained(folder)


def test_what_is_read_is_written_again_in_as_many_bytes_whatever_the_shapes(folder: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    read = 0
    for number in range(300):
        tensors, modules = {}, {}
        padded = chance.choice((1, 2, 40))
        for name in ("x", "y")[: chance.choice((1, 2))]:
            b, a = [chance.choice((0, 1, 2, 40)), padded], [padded, chance.choice((0, 1, 3, 40))]
            if chance.random() < 0.2:
                chance.choice((a, b))[chance.choice((0, 1))] = chance.choice((1, 2, 40))
            tensors |= factors(name, tuple(b), tuple(a))
            rank = b[0] if chance.random() < 0.3 else chance.choice((padded, padded, 1))
            modules[name] = {"kind": chance.choice(("dense", "low_rank")), "rank": rank}
        size = rewrite(folder, tensors, modules)
        try:
            adapter = Adapter.from_pretrained(folder, check_digest=False)
        except InputError:
            continue
        read += 1
        adapter.save_pretrained(tmp_path / f"again{number}")
        again = sum(path.stat().st_size for path in (tmp_path / f"again{number}").iterdir())
        assert again <= size + 4096
    assert read > 20


def test_deep_nesting_is_refused_since_indentation_would_multiply_it(folder: Path) -> None:
    place = folder / files.SIDECAR
    deep = json.loads("[" * 300 + "]" * 300)
    place.write_text(json.dumps({**json.loads(place.read_text()), "provenance": {str(i): deep for i in range(50)}}))
    with pytest.raises(InputError, match=r"seqedit\.json.*'provenance\.0.*nests deeper"):
        Adapter.from_pretrained(folder, check_digest=False)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float8_e4m3fn, torch.complex64])
def test_factors_and_values_of_another_type_are_refused_by_name(dtype: torch.dtype, folder: Path) -> None:
    weights = load_file(folder / files.WEIGHTS)
    name = sorted(weights)[0]
    modules = json.loads((folder / files.SIDECAR).read_text())["modules"]
    rewrite(folder, {**weights, name: torch.zeros(weights[name].shape).to(dtype)}, modules)
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: the factors of 'h\.0\.mlp'"):
        Adapter.from_pretrained(folder)
    rewrite(folder, weights, modules)
    (folder / files.VALUES).write_bytes(save({"keys.x": torch.zeros(2, 2).to(dtype)}))
    with pytest.raises(InputError, match=r"seqedit_values\.safetensors: tensor 'keys\.x'"):
        Adapter.from_pretrained(folder)
