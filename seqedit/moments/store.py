"""Second moments on disk: the user's own files, and a cache named by content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Projection
from seqedit.moments.measure import MEASURE_VERSION, compute_second_moments
from seqedit.moments.second_moments import SecondMoments, sample_size
from seqedit.support.cache import default_cache_dir
from seqedit.support.digests import json_digest
from seqedit.support.writing import new_file
from seqedit.text.identity import tokenizer_digest
from seqedit.text.plain_text import TextSource

_LOG = logging.getLogger(__name__)


def read_second_moments(path: str | Path) -> SecondMoments:
    """Second moments from a safetensors file with one (d_in, d_in) matrix per module name.

    Raises:
        InputError: the file is missing or malformed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return SecondMoments({k: file.get_tensor(k) for k in file.keys()}, int(metadata.get("tokens", 0)))  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not readable as second moments in safetensors ({error})") from error


def write_second_moments(path: Path, moments: SecondMoments) -> None:
    """Write second moments so that a reader sees the whole file or none."""
    with new_file(path) as temporary:
        save_file({k: v.contiguous() for k, v in moments.matrices.items()}, temporary, {"tokens": str(moments.tokens)})


def cache_folder(
    tokenizer: Tokenizer,
    fingerprint: str,
    source: TextSource,
    max_tokens: int,
    sequence_length: int,
    cache_dir: Path | None = None,
) -> Path:
    """Folder of the cached second moments of a model, with one file for each module.

    Its name is a digest of all that the second moments depend on.
    """
    settings = {
        "fingerprint": fingerprint,
        "measure": MEASURE_VERSION,
        "tokenizer": tokenizer_digest(tokenizer),
        "text": source.identity,
        "max_tokens": max_tokens,
        "sequence_length": sequence_length,
    }
    return (cache_dir or default_cache_dir()) / "second_moments" / json_digest(settings)


def cached_second_moments(
    model: CausalLM,
    tokenizer: Tokenizer,
    fingerprint: str,
    projections: Sequence[Projection],
    source: TextSource,
    *,
    max_tokens: int = 100_000,
    sequence_length: int = 64,
    per_dimension: float | None = None,
    cache_dir: Path | None = None,
    measure: Callable[..., SecondMoments] = compute_second_moments,
) -> SecondMoments:
    """Second moments of an unedited model, computed once per content and kept on disk.

    The cache's name is a digest of the model's fingerprint, the tokenizer, the text and the settings, so it can
    never be right about the wrong thing. Every module has a file of its own: another choice of layers reuses them.

    Args:
        model: The causal LM, unedited.
        tokenizer: Its tokenizer.
        fingerprint: Fingerprint of the model.
        projections: Modules to have.
        source: Plain text.
        max_tokens: Sample size.
        sequence_length: Tokens of one row.
        per_dimension: Sample size in tokens per input dimension of the widest module, instead of ``max_tokens``.
        cache_dir: Where to keep them; None means `default_cache_dir`.
        measure: What measures those that are missing, called as `compute_second_moments` is.
    """
    if per_dimension is not None:
        max_tokens = sample_size(projections, per_dimension)
    folder = cache_folder(tokenizer, fingerprint, source, max_tokens, sequence_length, cache_dir)
    held: dict[str, Any] = {}
    tokens = 0
    for projection in projections:
        file = folder / f"{projection.name}.safetensors"
        if file.is_file():
            try:
                found = read_second_moments(file)
                found.require([projection])
            except InputError as error:
                _LOG.warning("%s; it is measured again", error)
                continue  # and the file is overwritten
            held[projection.name], tokens = found.matrices[projection.name], found.tokens
    missing = [p for p in projections if p.name not in held]
    if missing:
        computed = measure(model, tokenizer, missing, source, max_tokens=max_tokens, sequence_length=sequence_length)
        tokens = computed.tokens
        for name, matrix in computed.matrices.items():
            write_second_moments(folder / f"{name}.safetensors", SecondMoments({name: matrix}, tokens))
            held[name] = matrix
    return SecondMoments({p.name: held[p.name] for p in projections}, tokens)
