"""Row 12: safetensors made to harm: a typed error, soon, and without taking memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqedit.adapters.adapter import Adapter
from seqedit.adapters.files import MAX_HEADER
from seqedit.errors import InputError
from tests.ledger.helpers import build_adapter
from tests.reliability.processes import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SECONDS = 1.0
MEGABYTES = 200
FILES = ("adapter_model.safetensors", "seqedit_values.safetensors")


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file as it is told to be."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def with_header(header: dict[str, Any], data: bytes = b"") -> bytes:
    return raw(json.dumps(header).encode(), data)


def tensor(dtype: str = "F32", shape: list[Any] | None = None, offsets: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [2] if shape is None else shape, "data_offsets": offsets or [0, 8]}


def split(whole: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a valid file."""
    (length,) = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def _empty(count: int, prefix: str = "t") -> dict[str, Any]:
    return {f"{prefix}{n}": tensor(shape=[0], offsets=[0, 0]) for n in range(count)}


def changed(whole: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    header, data = split(whole)
    change({name: info for name, info in header.items() if name != "__metadata__"})
    return with_header(header, data)


def first(entries: dict[str, Any]) -> dict[str, Any]:
    found = entries[min(entries)]
    assert isinstance(found, dict)
    return found


def attacks(whole: bytes) -> dict[str, bytes]:
    """The corpus: made up from nothing, or by changing a valid file."""
    big = 100 * 1024 * 1024
    return {
        "empty": b"",
        "seven bytes": b"\0" * 7,
        "header of 100 MB, filled": raw(b"{" + b" " * (big - 2) + b"}"),
        "header of 100 MB, one name": raw(b'{"' + b"a" * (big - 5) + b'":1}'),
        "header of 100 MB, claimed": raw(b"{}", length=big),
        "header beyond the file": raw(b"{}", length=1 << 40),
        "header length overflows": raw(b"{}", length=(1 << 64) - 1),
        "header length 2^63": raw(b"{}", length=1 << 63),
        "header is no JSON": raw(b"{" * 100),
        "header is no UTF-8": raw(b'{"\xff\xfe": 1}'),
        "header nested deeply": raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "header is a list": raw(b"[]"),
        "a million tensors": with_header(_empty(1_000_000)),
        "as many tensors as are read": with_header(_empty(MAX_HEADER // 80)),
        "as many keys as are read": with_header(_empty(MAX_HEADER // 80, "keys.")),
        "two names alike": raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' * 2 + b'"b":1}', bytes(8)),
        "overlap": with_header({"a": tensor(), "b": tensor(offsets=[4, 12])}, bytes(12)),
        "hole": with_header({"a": tensor(), "b": tensor(offsets=[16, 24])}, bytes(24)),
        "data left over": with_header({"a": tensor()}, bytes(1000)),
        "data cut off": with_header({"a": tensor(shape=[1000], offsets=[0, 4000])}, bytes(8)),
        "offsets backwards": with_header({"a": tensor(offsets=[8, 0])}, bytes(8)),
        "offsets negative": with_header({"a": tensor(offsets=[-8, 0])}, bytes(8)),
        "offsets beyond 2^64": with_header({"a": tensor(offsets=[0, 1 << 65])}, bytes(8)),
        "shape overflows": with_header({"a": tensor(shape=[1 << 32, 1 << 32])}, bytes(8)),
        "shape huge": with_header({"a": tensor(shape=[1 << 40], offsets=[0, 1 << 42])}, bytes(8)),
        "shape negative": with_header({"a": tensor(shape=[-2])}, bytes(8)),
        "shape no numbers": with_header({"a": tensor(shape=["2"])}, bytes(8)),
        "dtype unknown": with_header({"a": tensor(dtype="X99")}, bytes(8)),
        "name with a path": with_header({"../../x": tensor()}, bytes(8)),
        "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
        "valid, other names": with_header({"a": tensor()}, bytes(8)),
        "valid, dtype of half the size": changed(whole, lambda t: first(t).update(dtype="F16")),
        "valid, integers": changed(whole, lambda t: first(t).update(dtype="I32")),
        "valid, shape turned": changed(whole, lambda t: first(t).update(shape=first(t)["shape"][::-1])),
        "valid, shape flat": changed(whole, lambda t: first(t).update(shape=[first(t)["data_offsets"][1] // 4])),
        "valid, NaN": whole[:-4] + struct.pack("<f", float("nan")),
        "valid, one bit of data": whole[:-1] + bytes([whole[-1] ^ 1]),
        "valid, cut off": whole[:-1],
        "valid, twice": whole + whole,
    }


def read_in_child(directory: Path, result: Path) -> dict[str, Any]:
    """What reading an adapter directory ends with, and what it takes, measured in a process of its own."""

    def read() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.process_time()  # other programs on the machine do not count
        try:
            Adapter.from_pretrained(directory)
            outcome = "read"
        except InputError as error:
            named = any(word in str(error) for word in (str(directory), "module", *FILES))
            outcome = "refused" if named else f"refused without a name: {error}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        result.write_text(json.dumps({"outcome": outcome, "seconds": seconds, "megabytes": grown}))

    assert in_child(read) == 0, "the process died"
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.promise(12)
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", FILES)
def test_every_attack_ends_in_a_typed_error_soon_and_without_taking_memory(memory_path, figure, file, every):
    directory = memory_path / "adapter"
    build_adapter(1).save_pretrained(directory)
    path = directory / file
    whole = path.read_bytes()
    if file == FILES[1]:  # of no keys and no target values, so there is nothing in it to change
        whole = with_header({"keys.h.0.mlp": tensor(shape=[1, 2])}, bytes(8))
    slowest = largest = 0.0
    corpus = attacks(whole)
    names = list(corpus)[::every]
    for name in names:
        path.write_bytes(corpus[name])
        found = read_in_child(directory, memory_path / "result")
        assert found["outcome"] == "refused", (name, found)
        assert found["seconds"] < SECONDS, (name, found)
        assert found["megabytes"] < MEGABYTES, (name, found)
        slowest, largest = max(slowest, found["seconds"]), max(largest, found["megabytes"])
    figure(
        f"{file}: {len(names)} attacks refused, at most {slowest:.2f} s of processor time and {largest:.0f} MB more of "
        "peak memory"
    )


@pytest.mark.promise(12)
@pytest.mark.parametrize("examples", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_changes_of_a_valid_file_are_read_or_refused_and_nothing_else(memory_path, figure, examples):
    directory = memory_path / "adapter"
    build_adapter(1).save_pretrained(directory)
    path = directory / FILES[0]
    whole = path.read_bytes()
    refused = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(max_size=6)), min_size=1, max_size=4))
    def search(changes: list[tuple[int, bytes]]) -> None:
        nonlocal refused
        data = whole
        for position, piece in changes:
            data = data[:position] + piece + data[position + len(piece) :]
        path.write_bytes(data)
        read = False
        with contextlib.suppress(InputError):
            read = Adapter.from_pretrained(directory).digest == build_adapter(1).digest
        refused += not read
        assert read or data != whole

    search()
    assert refused > 0
    figure(f"hypothesis: {examples:,} changed files, {refused:,} refused, the others hold the same adapter")
