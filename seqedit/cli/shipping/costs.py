"""What an export cost, for people: its truncation and its camouflage, each with scores before and after."""

from __future__ import annotations

from typing import Any

from seqedit.cli.terminal import say


def print_truncation(told: dict[str, Any] | None) -> None:
    """Rank, errors and scores, line by line; nothing where nothing was truncated."""
    if told is None:
        return
    say(f"truncated to rank {told['rank']}, relative error (Frobenius):")
    for module, error in told["errors"].items():
        say(f"  {module}: {error:.2e}")
    _print_scores(told, "exact -> truncated")


def print_camouflage(told: dict[str, Any]) -> None:
    """What the decoys changed, line by line."""
    strength = f"{told['strength']:.3g} times its key"
    say(f"camouflaged with {told['decoys']} decoys a fact at {strength}, seed {told['seed']}:")
    say(f"  what is written at the edited keys moved by {told['change']:.1e} of the largest")
    for module, growth in told["growth"].items():
        say(f"  {module}: {growth:.2f} times the squared output on plain text")
    _print_scores(told, "plain -> camouflaged")


def _print_scores(told: dict[str, Any], states: str) -> None:
    if told["before"] is None:
        say("ES, PS and NS were not measured")
        return
    say(f"on {told['records']} records: {states}")
    for metric, value in told["before"].items():
        say(f"  {metric}: {value:.2f} -> {told['after'][metric]:.2f}")
