"""A quantised GGUF file as a plain model directory, converted once and kept in the cache.

transformers reads a GGUF file into ordinary tensors, but marks the model as quantised and then refuses to save it. So
its tensors are put into a model that was never quantised. The converted directory is named by the file's digest:
another file, even under the same name, is another model. Its ``config.json`` keeps ``gguf_source``, so that whatever
is computed with it can say which quantised weights it is about.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.models.quiet import quiet_transformers
from seqedit.support.cache import default_cache_dir

_LOG = logging.getLogger(__name__)

_MAGIC = b"GGUF"
_FORMAT = "v1"
"""Of the converted directory; a change of how it is made must not meet directories made before."""


def is_gguf(name: str) -> bool:
    """Whether the name of a model means a GGUF file."""
    return name.lower().endswith(".gguf")


def gguf_source(model: Any) -> Mapping[str, str] | None:
    """``file``, ``sha256`` and ``weights`` (type of most of them) of a converted model's GGUF; None for others."""
    found = getattr(getattr(model, "config", None), "gguf_source", None)
    return found if isinstance(found, dict) else None


def converted(path: Path, *, cache_dir: Path | None = None) -> Path:
    """The plain model directory (float32 safetensors, configuration, tokenizer) of a GGUF file.

    Args:
        path: The file.
        cache_dir: Where converted models are kept; None for the user's cache.

    Raises:
        InputError: no such file, not GGUF, or an architecture or tokenizer that transformers cannot read from GGUF.
        EnvironmentFailure: the ``gguf`` package is not installed, or the cache cannot be written.
    """
    if not path.is_file():
        raise InputError(f"no GGUF file at {path}")
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise InputError(f"{path} is no GGUF file: it does not begin with 'GGUF'")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    place = (cache_dir or default_cache_dir()) / "gguf" / f"{_FORMAT}-{digest[:32]}"
    if (place / "config.json").is_file():
        return place
    _LOG.info("converting %s once; it is kept at %s", path, place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".converting-"))
    except OSError as error:
        raise EnvironmentFailure(f"{place.parent} cannot be written: {error.strerror or error}") from error
    try:
        _convert(path, digest, temporary)
        try:
            temporary.rename(place)
        except OSError:
            if not (place / "config.json").is_file():  # else another process was first, with the same
                raise
    except OSError as error:
        raise EnvironmentFailure(f"{path} could not be converted into {place}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _convert(path: Path, digest: str, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = _weight_type(path)
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
            read = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{path} cannot be read as a causal language model: {first}") from error
        config = type(read.config).from_dict(
            {k: v for k, v in read.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
        )
        config.gguf_source = {"file": path.name, "sha256": digest, "weights": weights}
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(read.state_dict(), strict=True, assign=True)
        plain.tie_weights()  # assigned one by one, a tied pair has come apart
        plain.generation_config = read.generation_config
        tokenizer.save_pretrained(out)
        plain.save_pretrained(out)


def _weight_type(path: Path) -> str:
    """The type that most of the file's weights have, such as Q4_1."""
    try:
        import gguf
    except ImportError as error:
        raise EnvironmentFailure("reading GGUF files needs the package gguf: pip install 'seqedit[gguf]'") from error
    sizes: dict[str, int] = {}
    try:
        for tensor in gguf.GGUFReader(path).tensors:
            name = tensor.tensor_type.name
            sizes[name] = sizes.get(name, 0) + int(tensor.n_elements)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path} is no readable GGUF file: {error}") from error
    if not sizes:
        raise InputError(f"{path} holds no tensors")
    return max(sizes, key=lambda name: sizes[name])
