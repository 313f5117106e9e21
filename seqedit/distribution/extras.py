"""Libraries that only some users need: a clear error where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from seqedit.errors import EnvironmentFailure


def need(module: str, extra: str, what: str) -> None:
    """Refuse to go on without a library of an extra; it is looked for, not imported.

    Args:
        module: Its import name.
        extra: The extra of seqedit that installs it.
        what: What needs it.

    Raises:
        EnvironmentFailure: it is not installed; names the extra.
    """
    if find_spec(module) is None:
        raise EnvironmentFailure(f'{what} needs {module}, which is not installed; pip install "seqedit[{extra}]"')
