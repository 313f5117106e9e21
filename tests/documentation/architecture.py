"""Draws the layers from the contracts that import-linter holds, so that picture and contracts cannot differ.

``python -m tests.documentation.architecture --write`` writes ``docs/images/layers-*.svg`` and the generated part of
``docs/architecture.md``; a test compares both with what the contracts say.
"""

from __future__ import annotations

import argparse
import importlib
import textwrap
import tomllib
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- contracts: generated -->", "<!-- /contracts -->"
WIDTH, LABEL, GAP, LINE = 960, 14, 8, 15
"""Pixels: of the picture, of its margin, between boxes, of a line of text."""


def contracts() -> list[dict[str, Any]]:
    """The contracts of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return found


def layered() -> list[dict[str, Any]]:
    """Those that are stacks of layers."""
    return [contract for contract in contracts() if contract["type"] == "layers"]


def rows(contract: dict[str, Any]) -> list[list[str]]:
    """Modules of each layer by their full names, the topmost layer first; neighbours know nothing of each other."""
    container = contract.get("containers", [""])[0]
    return [
        [f"{container}.{name.strip()}".lstrip(".") for name in layer.replace(":", "|").split("|")]
        for layer in contract["layers"]
    ]


def purpose(module: str) -> str:
    """First sentence of a module's docstring."""
    text = (importlib.import_module(module).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split()).rstrip(".")


def picture(contract: dict[str, Any]) -> str:
    """The stack as SVG: a box for each package, upper layers import from lower ones."""
    parts: list[str] = []
    top = GAP
    for layer in rows(contract):
        width = (WIDTH - 2 * LABEL - GAP * (len(layer) - 1)) / len(layer)
        # 5.9 pixels a character at this size of the font, with some left over.
        told = [textwrap.wrap(purpose(module), int((width - 24) / 5.9)) for module in layer]
        height = 32 + LINE * max(len(lines) for lines in told)
        for index, (module, lines) in enumerate(zip(layer, told, strict=True)):
            left = LABEL + index * (width + GAP)
            fill = (
                "#eef2ff" if module.startswith("seqedit") else "#e8f5e9" if module.startswith("ledger") else "#fff3e0"
            )
            parts.append(
                f'<rect x="{left:g}" y="{top}" width="{width:g}" height="{height}" rx="5" fill="{fill}" '
                'stroke="#8a93a8"/>'
            )
            parts.append(f'<text x="{left + 12:g}" y="{top + 20}" class="name">{escape(module)}</text>')
            parts += [
                f'<text x="{left + 12:g}" y="{top + 37 + LINE * row}">{escape(line)}</text>'
                for row, line in enumerate(lines)
            ]
        top += height + GAP
    style = "text{font:12px sans-serif;fill:#20242c}.name{font:bold 13px monospace}"
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = f"<title>{escape(contract['name'])}: {'; '.join(' | '.join(layer) for layer in rows(contract))}</title>"
    ground = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, title, f"<style>{style}</style>", ground, *parts, "</svg>", ""])


def generated() -> str:
    """The part of the page that follows from the contracts."""
    lines = [BEGIN, ""]
    for contract in layered():
        lines += [f"**{contract['name'].capitalize()}:**", "", f"![{contract['name']}]({_image(contract)})", ""]
    lines += ["Beside the stacks:", ""]
    for contract in contracts():
        if contract["type"] == "forbidden":
            sources, others = contract["source_modules"], contract["forbidden_modules"]
            lines.append(f"- {contract['name']}: {_names(sources)} imports none of {_names(others)}.")
    return "\n".join([*lines, "", END])


def _names(modules: list[str]) -> str:
    return ", ".join(f"`{module}`" for module in modules)


def _image(contract: dict[str, Any]) -> str:
    return f"images/layers-{contract['id']}.svg"


def pictures() -> dict[Path, str]:
    """Path -> content of every picture."""
    return {PAGE.parent / _image(contract): picture(contract) for contract in layered()}


def with_generated(page: str) -> str:
    """The page with its generated part written anew."""
    before, _, rest = page.partition(BEGIN)
    return before + generated() + rest.partition(END)[2]


def main() -> None:
    """Write the pictures and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    for path, content in pictures().items():
        path.write_text(content, "utf-8")
    PAGE.write_text(with_generated(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
