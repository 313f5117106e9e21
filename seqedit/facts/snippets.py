"""CounterFact's ``attribute_snippets.json``: texts about subjects that truly have an attribute, for RS.

Published as a list of {"relation_id", "target_id", "samples": [{"name", "text", ...}]}; read as well is the form that
the public evaluation makes of it, relation id -> target id -> list of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.errors import InputError
from seqedit.support.reading import read_json


@dataclass(frozen=True)
class AttributeSnippets:
    """Texts by attribute.

    Attributes:
        texts: (relation id, target id) -> texts, in the file's order.
    """

    texts: Mapping[tuple[str, str], tuple[str, ...]]

    def of(self, relation: str | None, target: str | None) -> tuple[str, ...]:
        """The texts of one attribute; none where the file has none."""
        return () if relation is None or target is None else self.texts.get((relation, target), ())

    def every(self) -> list[str]:
        """All texts, which the public evaluation fits its TF-IDF weights to."""
        return [text for texts in self.texts.values() for text in texts]


def read_attribute_snippets(path: str | Path) -> AttributeSnippets:
    """Read the file.

    Raises:
        InputError: it is missing or not such a file; names the file and the place in it.
    """
    try:
        data = read_json(path)
    except InputError as error:
        raise InputError(f"attribute snippets {error}") from error
    found: dict[tuple[str, str], list[str]] = {}
    for where, relation, target, samples in _groups(data, path):
        if not isinstance(samples, list):
            raise InputError(f"attribute snippets {path}, {where}: the samples must be a list")
        for sample in samples:
            text = sample.get("text") if isinstance(sample, Mapping) else None
            if not isinstance(text, str):
                raise InputError(f"attribute snippets {path}, {where}: every sample needs a text in its field 'text'")
            found.setdefault((relation, target), []).append(text)
    if not found:
        raise InputError(f"attribute snippets {path}: holds no texts")
    return AttributeSnippets({key: tuple(texts) for key, texts in found.items()})


def _groups(data: Any, path: str | Path) -> list[tuple[str, str, str, Any]]:
    """(place, relation id, target id, samples) of either form."""
    if isinstance(data, list):
        groups = []
        for number, item in enumerate(data, 1):
            fields = item if isinstance(item, Mapping) else {}
            relation, target = fields.get("relation_id"), fields.get("target_id")
            if not isinstance(relation, str) or not isinstance(target, str):
                raise InputError(
                    f"attribute snippets {path}, item {number}: needs the texts 'relation_id', 'target_id'"
                )
            groups.append((f"item {number}", relation, target, fields.get("samples")))
        return groups
    if isinstance(data, Mapping) and all(isinstance(targets, Mapping) for targets in data.values()):
        return [
            (f"{relation}, {target}", relation, target, samples)
            for relation, targets in data.items()
            for target, samples in targets.items()
        ]
    raise InputError(f"attribute snippets {path}: expected relation id -> target id -> list of samples")
