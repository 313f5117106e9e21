"""Values of options that are kept: each check gives the text that is kept, or says what does not fit.

What takes long to import is imported where a value asks for it: reading what is kept needs none of it.
"""

from __future__ import annotations

from pathlib import Path

from seqedit.errors import InputError
from seqedit.support.reading import read_json
from seqedit.support.suggestions import did_you_mean


def some_text(value: str) -> str:
    """Any text but an empty one."""
    if not value.strip():
        raise InputError("an empty value; to take it out: --unset")
    return value


def model(value: str) -> str:
    """A directory, a file of GGUF, a Hub id or a shipped model."""
    from seqedit.demo.location import DEMO_PREFIX

    some_text(value)
    path = Path(value)
    if path.exists():
        return str(path.absolute())
    if value.startswith(DEMO_PREFIX):
        from seqedit.demo import STYLES

        shipped = [DEMO_PREFIX + style for style in STYLES]
        return _one_of(value, shipped, "shipped model")
    if path.is_absolute() or value.startswith((".", "~")) or value.count("/") > 1:
        raise InputError(f"no model directory at {value}")
    return value


def method(value: str) -> str:
    """A registered method."""
    from seqedit.methods import get_method

    return get_method(value).name


def preset(value: str) -> str:
    """A shipped preset, a preset file, or ``rule``."""
    from seqedit.editing.settings import BY_RULE, is_preset_file, preset_names

    if is_preset_file(value):
        return mapping_file(value)
    return _one_of(value, [*preset_names(), BY_RULE], "preset", "; or a .yaml file")


def layers(value: str) -> str:
    """Whole numbers with commas."""
    from seqedit.methods.config import EditConfig

    found = EditConfig.from_dict({"layers": value}).layers
    if not found:
        raise InputError("no layer")
    return ",".join(map(str, found))


def spread(value: str) -> str:
    """How a residual is spread over the layers."""
    return _one_of(value, ["single", "even", "sqrt", "boundary", "replay"], "spread")


def zsre(value: str) -> str:
    """A convention of zsRE records."""
    from seqedit.facts.layouts import check_convention

    check_convention(value)
    return value


def gate(value: str) -> str:
    """A limit."""
    from evals.gates import parse_gates

    parse_gates([value])
    return value


def on_gate(value: str) -> str:
    """What a broken gate does to an edit."""
    return _one_of(value, ["revert", "stop"], "value")


def dtype(value: str) -> str:
    """A weight type."""
    return _one_of(value, ["auto", "float32", "bfloat16", "float16"], "dtype")


def task(value: str) -> str:
    """A task's name, or a name with a file or folder that is there."""
    return named_file(value) if "=" in value else some_text(value)


def named_file(value: str) -> str:
    """NAME=FILE."""
    name, _, path = value.partition("=")
    if not name.strip() or not path:
        raise InputError(f"give NAME=FILE, got {value!r}")
    return f"{name.strip()}={source(path) if path.startswith('demo:') else _there(path)}"


def file(value: str) -> str:
    """A file that is there."""
    if not Path(value).is_file():
        raise InputError(f"no such file: {value}")
    return str(Path(value).absolute())


def mapping_file(value: str) -> str:
    """A JSON or YAML file with a mapping."""
    from seqedit.support.files import read_mapping

    path = file(value)
    read_mapping(path)
    return path


def mapping_or_list_file(value: str) -> str:
    """A JSON file."""
    path = file(value)
    read_json(path)
    return path


def source(value: str) -> str:
    """A file, a folder, a file of the demo world, or a data set of the Hub."""
    from seqedit.demo.location import DEMO_FILE, resolve_demo_file

    some_text(value)
    if value.startswith(DEMO_FILE):
        resolve_demo_file(value)
        return value
    path = Path(value)
    if path.exists():
        return str(path.absolute())
    if path.suffix in (".json", ".jsonl", ".parquet", ".txt") or value.count("/") != 1 or value.startswith("."):
        raise InputError(f"no such file: {value}")
    return value


text = source
"""A text is named as facts are."""


def count(value: str) -> str:
    """A whole number, 0 included."""
    try:
        number = int(value)
    except ValueError:
        raise InputError(f"a whole number is needed, got {value!r}") from None
    if number < 0:
        raise InputError(f"it must not be negative, got {number}")
    return str(number)


def positive(value: str) -> str:
    """A whole number above 0."""
    if count(value) == "0":
        raise InputError("it must be at least 1, got 0")
    return count(value)


def _there(path: str) -> str:
    if not Path(path).exists():
        raise InputError(f"no such file: {path}")
    return str(Path(path).absolute())


def _one_of(value: str, known: list[str], what: str, more: str = "") -> str:
    if value in known:
        return value
    raise InputError(f"unknown {what} '{value}'{did_you_mean(value, known)} (known: {', '.join(known)}{more})")
