"""``ledger`` and ``evals`` are common words: whether the modules of these names are this distribution's."""

from __future__ import annotations

from importlib import import_module

from seqedit.errors import EnvironmentFailure

DISTRIBUTION = "seqedit"
NAMES = ("ledger", "evals")


def check_import_names() -> None:
    """Refuse to work with another distribution's ``ledger`` or ``evals``.

    Raises:
        EnvironmentFailure: names the module, where it lies, and the distributions that install it.
    """
    for name in NAMES:
        try:
            found = import_module(name)
        except Exception as error:  # another distribution's may fail in any way
            raise EnvironmentFailure(f"{_clash(name)}, and cannot be imported ({error}); {_ADVICE}") from error
        if getattr(found, "__distribution__", None) != DISTRIBUTION:
            where = getattr(found, "__file__", None) or ", ".join(getattr(found, "__path__", []))
            raise EnvironmentFailure(f"{_clash(name)} ({where}); {_ADVICE}")


_ADVICE = "use an environment of its own for seqedit, or uninstall the other and install seqedit again"


def _clash(name: str) -> str:
    from importlib.metadata import packages_distributions

    others = sorted(set(packages_distributions().get(name, ())) - {DISTRIBUTION})
    return f"the module '{name}' is not seqedit's but that of {', '.join(others) or 'something else on the path'}"
