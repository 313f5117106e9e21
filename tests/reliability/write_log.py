"""The writes of a process, taken down by strace: everything it asks of the kernel that changes a directory tree.

SQLite's own writes are in it too. Its shared-memory index (``-shm``) is left out: it is mapped, never synced, and made
anew by the first connection after a crash.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.processes import start, wait

CALLS = (
    "open,openat,creat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,"
    "renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,fsync,fdatasync,dup,dup2,dup3,fcntl,"
    "lseek,sendfile,copy_file_range"
)
_PR_SET_PTRACER = 0x59616D61
_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class NoTracer(Exception):
    """strace is missing, or may not look at other processes here."""


@dataclass(frozen=True)
class Op:
    """A change of the disk, or a sync, or a sign that a command has returned.

    Attributes:
        kind: write, truncate, link, unlink, rename, sync or ack.
        inode: The file whose data changes, that gets or loses a name, or that is synced.
        place: (directory's inode, name) that changes; of a rename, the new one.
        old: Of a rename, the place it leaves.
        offset: Where data is written, or the new length.
        data: What is written.
    """

    kind: str
    inode: int = 0
    place: tuple[int, str] = (0, "")
    old: tuple[int, str] = (0, "")
    offset: int = 0
    data: bytes = b""


@dataclass
class _Open:
    inode: int | None
    position: int = 0
    append: bool = False


@dataclass
class WriteLog:
    """Changes below a directory, in order, with the tree they started from.

    Attributes:
        root: The directory.
        ops: What happened.
        directories: Inodes that are directories; 0 is the root.
    """

    root: Path
    ops: list[Op] = field(default_factory=list)
    directories: set[int] = field(default_factory=lambda: {0})
    _tree: dict[tuple[int, str], int] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)
    _open: dict[int, _Open] = field(default_factory=dict)
    _next: int = 1

    def add(self, line: str, ack: Path) -> None:
        """Take in one line of strace's output."""
        match = _LINE.match(line)
        if match is None or match[3] == "?" or int(match[3]) < 0:
            return  # a signal, or a call that failed and so changed nothing
        call, text, result = match[1], match[2], int(match[3])
        strings = []
        for found in _STRING.finditer(text):
            assert not found[2], f"strace cut a string off: {line[:100]}"
            strings.append(bytes.fromhex(found[1].replace("\\x", "")))
        numbers = [int(n) if n != "AT_FDCWD" else -100 for n in re.findall(r"(?:^|, )(-?\d+|AT_FDCWD)(?=,|$)", text)]
        self._take(call, text, strings, numbers, result, ack)

    def _take(self, call: str, text: str, strings: list[bytes], numbers: list[int], result: int, ack: Path) -> None:
        if call in ("open", "openat", "creat"):
            self._opened(call, text, strings[0], numbers, result, ack)
        elif call == "close":
            self._open.pop(numbers[0], None)
        elif call in ("dup", "dup2", "dup3") or (call == "fcntl" and "F_DUPFD" in text):
            if numbers[0] in self._open:
                self._open[result] = self._open[numbers[0]]
        elif call in ("write", "pwrite64"):
            self._written(call, strings[0], numbers, result)
        elif call == "lseek":
            if numbers[0] in self._open:
                self._open[numbers[0]].position = result
        elif call == "ftruncate":
            handle = self._open.get(numbers[0])
            if handle is not None and handle.inode is not None:
                self._sizes[handle.inode] = numbers[1]
                self.ops.append(Op("truncate", handle.inode, offset=numbers[1]))
        elif call in ("fsync", "fdatasync"):
            handle = self._open.get(numbers[0])
            if handle is not None and handle.inode is not None:
                self.ops.append(Op("sync", handle.inode))
        elif call in ("mkdir", "mkdirat"):
            place = self._place(strings[0], self._at(call, numbers))
            if place is not None:
                self._link(place, directory=True)
        elif call in ("unlink", "unlinkat", "rmdir"):
            place = self._place(strings[0], self._at(call, numbers))
            if place is not None:
                self.ops.append(Op("unlink", self._tree.pop(place), place))
        elif call in ("rename", "renameat", "renameat2"):
            at = (-100, -100) if call == "rename" else (numbers[0], numbers[1])
            self._renamed(strings, at)
        elif call != "fcntl":
            # The product does not use the others; were it to, this model would have to learn them.
            handle = self._open.get(numbers[0]) if numbers else None
            assert handle is None, f"unknown way to write: {call}"

    @staticmethod
    def _at(call: str, numbers: list[int]) -> int:
        return numbers[0] if call.endswith("at") else -100

    def _opened(self, call: str, text: str, name: bytes, numbers: list[int], result: int, ack: Path) -> None:
        if name == os.fsencode(ack):
            self._open[result] = _Open(-1)
            return
        place = self._place(name, numbers[0] if call == "openat" and numbers else -100)
        if place is None:
            self._open.pop(result, None)
            return
        inode = 0 if place == (0, "") else self._tree.get(place)
        if inode is None:
            assert "O_CREAT" in text or call == "creat", f"a file appeared: {text[:200]}"
            inode = self._link(place)
        elif ("O_TRUNC" in text or call == "creat") and self._sizes.get(inode):
            self.ops.append(Op("truncate", inode))
            self._sizes[inode] = 0
        self._open[result] = _Open(inode, append="O_APPEND" in text)

    def _written(self, call: str, data: bytes, numbers: list[int], result: int) -> None:
        handle = self._open.get(numbers[0])
        if handle is None or handle.inode is None:
            return
        if handle.inode == -1:
            self.ops.append(Op("ack"))
            return
        assert result == len(data)
        size = self._sizes.get(handle.inode, 0)
        if call == "pwrite64":
            offset = numbers[-1]
        else:
            offset = size if handle.append else handle.position
            handle.position = offset + result
        self._sizes[handle.inode] = max(size, offset + result)
        self.ops.append(Op("write", handle.inode, offset=offset, data=data))

    def _renamed(self, strings: list[bytes], at: tuple[int, int]) -> None:
        old, new = (self._place(name, directory) for name, directory in zip(strings, at, strict=True))
        assert (old is None) == (new is None), "a rename over the edge of the directory"
        if old is not None and new is not None:
            inode = self._tree.pop(old)
            self._tree[new] = inode
            self.ops.append(Op("rename", inode, new, old))

    def _link(self, place: tuple[int, str], *, directory: bool = False) -> int:
        inode, self._next = self._next, self._next + 1
        self._tree[place] = inode
        if directory:
            self.directories.add(inode)
        self.ops.append(Op("link", inode, place))
        return inode

    def _place(self, name: bytes, directory: int) -> tuple[int, str] | None:
        """(directory's inode, name) of a path, or None where it does not count; (0, "") is the root itself."""
        path = os.fsdecode(name)
        if path.endswith("-shm"):
            return None
        if not path.startswith("/") and directory != -100:
            handle = self._open.get(directory)
            if handle is None or handle.inode is None or handle.inode < 0:
                return None
            at, parts = handle.inode, [part for part in path.split("/") if part not in ("", ".")]
        else:
            full = os.path.normpath(os.path.join(os.getcwd(), path))
            if full != str(self.root) and not full.startswith(f"{self.root}/"):
                return None
            at, parts = 0, [part for part in full[len(str(self.root)) :].split("/") if part]
        if not parts:
            return (0, "")
        for part in parts[:-1]:
            at = self._tree[at, part]
        return at, parts[-1]


def record(root: Path, action: Callable[[Callable[[], None]], object], scratch: Path) -> WriteLog:
    """Run an action in a traced child and return what it wrote below an empty directory.

    Args:
        root: The directory.
        action: What to run; it calls its argument each time a command has returned.
        scratch: For the trace.

    Raises:
        NoTracer: strace is not there or may not trace; the message says which.
    """
    if shutil.which("strace") is None:
        raise NoTracer("strace is not installed")
    assert not any(root.iterdir())
    trace, ack = scratch / "trace", scratch / "acks"
    ack.touch()
    go, gone = os.pipe()

    def child() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        os.read(go, 1)
        with ack.open("ab", buffering=0) as stream:
            action(lambda: (stream.write(b"."), None)[1])

    pid = start(child)
    command = ["strace", "-qq", "-xx", "-s", str(1 << 26), "-e", f"trace={CALLS}", "-e", "signal=none"]
    tracer = subprocess.Popen([*command, "-o", str(trace), "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
            if tracer.poll() is not None:
                assert tracer.stderr is not None
                said = tracer.stderr.read().decode(errors="replace").strip()
                if "not permitted" in said:
                    raise NoTracer(f"strace may not trace here: {said}")
                raise RuntimeError(said)
            time.sleep(0.01)
    finally:
        os.write(gone, b"x")
        (status,) = wait([pid])
        tracer.wait()
        os.close(go)
        os.close(gone)
        if tracer.stderr is not None:
            tracer.stderr.close()
    assert status == 0
    log = WriteLog(root)
    with trace.open() as lines:
        for line in lines:
            log.add(line, ack)
    return log
