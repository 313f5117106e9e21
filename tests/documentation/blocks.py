"""Command and code blocks of README and documentation, as a reader would type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("seqedit", "make", "python", "python3", "cat", "torchrun", "accelerate", "lm_eval", "export", "pip", "srun")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        page: Path from the repository's root.
        kind: ``commands`` or a fence's language.
        title: ``title="..."`` of a fence: the file that it is meant to be.
        lines: As they stand on the page, without the indentation.
    """

    page: str
    kind: str
    title: str
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """Page and beginning of the first line, by which tests list it."""
        return f"{self.page}: {' '.join(uncommented(self.lines[0]).split())[:60].rstrip()}"

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines) + "\n"

    @property
    def commands(self) -> list[str]:
        """Its commands, one a line: continued lines joined, comments left out, ``a && b`` as two."""
        joined = re.sub(r"\\\n\s*", "", "\n".join(uncommented(line) for line in self.lines))
        return [part.strip() for line in joined.split("\n") for part in line.split(" && ") if _is_command(part.strip())]


def uncommented(line: str) -> str:
    """A line without the remark behind it and without a prompt before it."""
    return re.sub(r"(^|\s\s+)# .*$", "", line).removeprefix("$ ").rstrip()


def _is_command(text: str) -> bool:
    return text.split(" ")[0] in PROGRAMS


def blocks(path: Path) -> list[Block]:
    """All blocks of a page that hold commands or code, in order."""
    page, lines = str(path.relative_to(ROOT)), path.read_text("utf-8").split("\n")
    found, at = [], 0
    while at < len(lines):
        fence = re.match(r'```(\w*)(?:.*title="([^"]+)")?', lines[at])
        end = at + 1
        if fence:
            while not lines[end].startswith("```"):
                end += 1
            inside = tuple(lines[at + 1 : end])
            kind = "commands" if fence[1] == "bash" else fence[1]
            if kind:
                found.append(Block(page, kind, fence[2] or "", inside))
            end += 1
        elif lines[at].startswith("    ") and (not lines[at - 1].strip() or lines[at - 1].startswith("#")):
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            inside = tuple(line[4:] for line in lines[at:end])
            if _is_command(uncommented(inside[0])):
                found.append(Block(page, "commands", "", inside))
        at = end
    return found


def all_blocks() -> list[Block]:
    """Of all pages."""
    return [block for path in PAGES for block in blocks(path)]
