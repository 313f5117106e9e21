"""What a user calls a model, a weight type, a device: checked before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from seqedit.demo import STYLES, model_path
from seqedit.demo.location import DEMO_PREFIX
from seqedit.errors import InputError
from seqedit.models.checkpoint import check_files
from seqedit.models.gguf import converted, is_gguf
from seqedit.support.suggestions import closest, did_you_mean

DEMO_MODELS = tuple(DEMO_PREFIX + style for style in STYLES)
"""The shipped models' names."""
DEVICE_MAPS = ("auto", "balanced", "sequential")
"""Devices that stand for a way to spread a model over all of them."""
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
"""The weight types that are usual; torch knows more of them."""
_DEVICES = (
    "cpu", "cuda", "mps", "xpu", "hpu", "xla", "mtia", "meta", "npu", "mlu", "musa", "ipu", "vulkan", "hip", "maia",
    "lazy", "fpga", "privateuseone",
)  # fmt: skip
_NEAR = 0.8
"""How alike a name is to a shipped model's that is taken for a slip: gpt2 is none of demo-gpt2."""


def resolve_model(name: str) -> str:
    """The directory of a shipped model (``demo-gpt2``, ``demo-llama``) or of a GGUF file, or the name itself.

    Raises:
        InputError: a name without a slash that only a shipped model could have, or that is a slip of one's.
    """
    if is_gguf(name) and Path(name).is_file():
        return str(converted(Path(name)))
    return _shipped(name) or name


def _shipped(name: str) -> str | None:
    if "/" in name or Path(name).exists():
        return None
    if name in DEMO_MODELS:
        style = name.removeprefix(DEMO_PREFIX)
        if not model_path(style).is_dir():
            raise InputError(
                f"the model '{name}' is not shipped with this version; train it with "
                f"`python -m seqedit.demo_training.train --style {style} --out DIR` and give the directory"
            )
        return str(model_path(style))
    if name.startswith(DEMO_PREFIX) or closest(name, DEMO_MODELS, cutoff=_NEAR):
        raise InputError(
            f"unknown demo model '{name}'{did_you_mean(name, DEMO_MODELS)} (shipped: {', '.join(DEMO_MODELS)}; another "
            "model is a local directory or a Hub id such as org/name)"
        )
    return None


def check_demo(name: str) -> None:
    """Refuse another model than a shipped one.

    Raises:
        InputError: names those there are.
    """
    if name not in DEMO_MODELS:
        raise InputError(
            f"the demo runs on {' or '.join(DEMO_MODELS)}, not on '{name}'{did_you_mean(name, DEMO_MODELS)}; for other "
            "models see `seqedit run`"
        )


def check_model(name: str) -> None:
    """Refuse what cannot be a model, as far as that is known without loading it; a Hub id is not asked for.

    Raises:
        InputError: no such directory or file, or a directory that holds no model that could be edited
            (`seqedit.models.checkpoint`).
        EnvironmentFailure: its files cannot be read.
    """
    if is_gguf(name) and Path(name).is_file():
        return
    source = _shipped(name) or name
    path = Path(source)
    if path.is_dir():
        check_files(path)
    elif is_gguf(source):
        raise InputError(f"no GGUF file at {source}")
    elif path.exists() or path.is_absolute() or source.startswith(".") or source.count("/") > 1:
        raise InputError(f"no model directory at {source}")


def check_dtype(name: str) -> None:
    """Refuse a name that is a slip of a weight type's.

    Raises:
        InputError: names the usual ones.
    """
    # Others than the usual are torch's to judge, when the model is loaded.
    if name not in DTYPES and (not name.isidentifier() or (closest(name, DTYPES) and not _of_torch(name))):
        raise unknown_dtype(name)


def unknown_dtype(name: str) -> InputError:
    """The error of a weight type that there is not."""
    return InputError(f"unknown dtype '{name}'; use auto, float32, bfloat16 or float16{did_you_mean(name, DTYPES)}")


def _of_torch(name: str) -> bool:
    return name in ("float", "half", "double") or name.startswith(("float8_", "float4_"))


def check_device(name: str | None) -> None:
    """Refuse a name that is a slip of a device's.

    Raises:
        InputError: names those that are usual.
    """
    kind = (name or "cpu").partition(":")[0]
    known = (*DEVICE_MAPS, *_DEVICES)
    if kind not in known and (hint := did_you_mean(kind, known)):
        raise InputError(
            f"unknown device '{name}'{hint} (usual: cpu, cuda, cuda:1, mps; {', '.join(DEVICE_MAPS)}: over all)"
        )
