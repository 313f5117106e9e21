"""What may be left of a directory tree when the power fails.

The model is harsher than a journalling file system. A sync of a file keeps what was written to it before, and nothing
else: not its name. A sync of a directory keeps the names in it. Everything else that was under way may be there or not,
independently of each other and of their order; a write may be there in some of its 512-byte sectors only. Renames alone
are atomic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.reliability.write_log import Op, WriteLog

SECTOR = 512


def synced_at(ops: Sequence[Op]) -> list[int]:
    """For each operation, the position of the first sync that keeps it; the number of operations where none does."""
    never = len(ops)
    kept = [never] * len(ops)
    waiting: dict[int, list[int]] = {}
    for position, op in enumerate(ops):
        if op.kind == "sync":
            for earlier in waiting.pop(op.inode, []):
                kept[earlier] = position
        elif op.kind in ("write", "truncate"):
            waiting.setdefault(op.inode, []).append(position)
        elif op.kind in ("link", "unlink", "rename"):
            waiting.setdefault(op.place[0], []).append(position)
    return kept


def survivors(log: WriteLog, kept: Sequence[int], crash: int, chance: random.Random | None) -> list[Op]:
    """Operations before a crash that are on the disk after it.

    Args:
        log: What was written.
        kept: From `synced_at`.
        crash: How many operations had returned.
        chance: Decides about what was not synced; None keeps all of it, as when only the process dies.
    """
    found: list[Op] = []
    # How much of what was under way survives differs between crashes: all but one matters as much as half.
    share = 1.0 if chance is None else chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for position, op in enumerate(log.ops[:crash]):
        if op.kind in ("sync", "ack"):
            continue
        if kept[position] < crash or chance is None or chance.random() < share:
            found.append(op)
        elif op.kind == "write" and len(op.data) > SECTOR and chance.random() < 0.5:
            found += _torn(op, chance)
    return found


def _torn(op: Op, chance: random.Random) -> list[Op]:
    parts = []
    for start in range(0, len(op.data), SECTOR):
        if chance.random() < 0.5:
            parts.append(Op("write", op.inode, offset=op.offset + start, data=op.data[start : start + SECTOR]))
    return parts


def tree(log: WriteLog, ops: Sequence[Op]) -> dict[str, bytes | None]:
    """Path -> content of what operations leave; None for a directory."""
    names: dict[tuple[int, str], int] = {}
    data: dict[int, bytearray] = {}
    for op in ops:
        if op.kind == "link":
            names[op.place] = op.inode
        elif op.kind == "unlink":
            if names.get(op.place) == op.inode:
                del names[op.place]
        elif op.kind == "rename":
            if names.get(op.old) == op.inode:
                del names[op.old]
            names[op.place] = op.inode
        else:
            content = data.setdefault(op.inode, bytearray())
            if op.kind == "truncate":
                del content[op.offset :]
            content.extend(bytes(max(0, op.offset + len(op.data) - len(content))))
            content[op.offset : op.offset + len(op.data)] = op.data
    children: dict[int, list[tuple[str, int]]] = {}
    for (directory, name), inode in names.items():
        children.setdefault(directory, []).append((name, inode))
    found: dict[str, bytes | None] = {}
    waiting = [("", 0)]
    while waiting:
        path, directory = waiting.pop()
        for name, inode in children.get(directory, []):
            if inode in log.directories:
                found[path + name] = None
                waiting.append((f"{path}{name}/", inode))
            else:
                found[path + name] = bytes(data.get(inode, b""))
    return dict(sorted(found.items()))


def lay_out(found: dict[str, bytes | None], directory: Path) -> None:
    """Write a tree below an empty directory."""
    for name, content in found.items():
        path = directory / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
