"""How often the search for a collapse finds one that is not there, and one that is; for docs/reference/statistics.md.

    python examples/collapse_study.py [--series 500] [--seed 0]

Every series is simulated in percent and cut off at 0 and 100. Two minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from evals.forgetting import find_collapse

Noise = Callable[[np.random.Generator, int], "np.typing.NDArray[np.float64]"]
LENGTHS = (8, 14, 30, 60, 100)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)

    print("false alarms, % of series\n")
    print(f"| series | {' | '.join(f'{n} steps' for n in LENGTHS)} |\n|---|{'---:|' * len(LENGTHS)}")
    for name, draw in QUIET.items():
        rates = []
        for steps in LENGTHS:
            alarms = sum(find_collapse(percent(draw(rng, steps))) is not None for _ in range(given.series))
            rates.append(f"{100 * alarms / given.series:.1f}")
        print(f"| {name} | {' | '.join(rates)} |", flush=True)

    print("\nfound at most two steps from its first step, % of series of 60 steps\n")
    widths = (1, 2, 3, 4, 8, 12)
    print(f"| collapse | {' | '.join(f'in {w} steps' if w > 1 else 'in 1 step' for w in widths)} |", end="")
    print(f"\n|---|{'---:|' * len(widths)}")
    for name, (top, bottom, noise) in FALLS.items():
        rates = []
        for width in widths:
            hits = 0
            for number in range(given.series):
                at = (5, 12, 30)[number % 3]
                part = np.clip((np.arange(60) - at + 1) / width, 0, 1)
                found = find_collapse(percent(top - (top - bottom) * part + noise(rng, 60)))
                hits += found is not None and abs(found.step - (at + 1)) <= 2
            rates.append(f"{100 * hits / given.series:.0f}")
        print(f"| {name} | {' | '.join(rates)} |", flush=True)


def percent(values: np.typing.NDArray[np.float64]) -> list[float | None]:
    """A series as a run has it; what is not finite was not measured."""
    return [float(v) if np.isfinite(v) else None for v in np.clip(values, 0, 100)]


def ar(phi: float, deviation: float) -> Noise:
    """AR(1) noise from its stationary distribution, or a random walk for phi = 1."""

    def draw(rng: np.random.Generator, steps: int) -> np.typing.NDArray[np.float64]:
        state = 0.0 if phi == 1 else rng.normal(0, deviation / np.sqrt(1 - phi**2))
        values = np.empty(steps)
        for step in range(steps):
            values[step] = state
            state = phi * state + rng.normal(0, deviation)
        return values

    return draw


def around(mean: float, slope: float, noise: Noise) -> Noise:
    """A mean, a trend per step, and noise."""
    return lambda rng, steps: mean + slope * np.arange(steps) + noise(rng, steps)


def shares(records: int, start: float, end: float) -> Noise:
    """Percent of independent records that are right, with a probability that slides."""
    return lambda rng, steps: 100 * rng.binomial(records, np.linspace(start, end, steps)) / records


def scored_again(records: int, right: float, lost: float) -> Noise:
    """All earlier records scored at every step; each that is right is lost for good with a small probability."""

    def draw(rng: np.random.Generator, steps: int) -> np.typing.NDArray[np.float64]:
        holds, means = np.zeros(0, dtype=bool), np.empty(steps)
        for step in range(steps):
            holds = np.concatenate([holds & (rng.random(len(holds)) > lost), rng.random(records) < right])
            means[step] = 100 * holds.mean()
        return means

    return draw


def gaps(noise: Noise) -> Noise:
    """A third of the steps not measured."""
    return lambda rng, steps: np.where(rng.random(steps) < 1 / 3, np.nan, noise(rng, steps))


QUIET: dict[str, Noise] = {
    "constant 100": lambda rng, steps: np.full(steps, 100.0),
    "independent, sd 5, around 90": around(90, 0, ar(0, 5)),
    "AR(1) 0.5, sd 4, around 90": around(90, 0, ar(0.5, 4)),
    "AR(1) 0.7, sd 3, around 85": around(85, 0, ar(0.7, 3)),
    "AR(1) 0.9, sd 2, around 90": around(90, 0, ar(0.9, 2)),
    "AR(1) 0.9, sd 4, around 90": around(90, 0, ar(0.9, 4)),
    "AR(1) 0.95, sd 2, around 90": around(90, 0, ar(0.95, 2)),
    "AR(1) 0.9, sd 2, -0.5 per step": around(95, -0.5, ar(0.9, 2)),
    "AR(1) 0.9, sd 2, a third missing": gaps(around(90, 0, ar(0.9, 2))),
    "random walk, sd 1, -0.2 per step": around(95, -0.2, ar(1, 1)),
    "random walk, sd 2, -0.2 per step": around(95, -0.2, ar(1, 2)),
    "random walk, sd 3, -0.2 per step": around(95, -0.2, ar(1, 3)),
    "16 records, 90 % right": shares(16, 0.9, 0.9),
    "16 records, 99 % right": shares(16, 0.99, 0.99),
    "16 records, sliding from 100 to 40 %": shares(16, 1.0, 0.4),
    "64 records, sliding from 100 to 40 %": shares(64, 1.0, 0.4),
    "16 a step, all scored again, 1 % of them lost per step": scored_again(16, 0.97, 0.01),
    "2 a step, all scored again, 2 % of them lost per step": scored_again(2, 0.97, 0.02),
    "falling by 5 % of itself per step": lambda rng, steps: 100 * 0.95 ** np.arange(steps) + rng.normal(0, 1, steps),
    "4 records, 90 % right": shares(4, 0.9, 0.9),
}
FALLS: dict[str, tuple[float, float, Noise]] = {
    "97 to 2, independent, sd 1": (97, 2, ar(0, 1)),
    "95 to 11, independent, sd 3": (95, 11, ar(0, 3)),
    "90 to 30, AR(1) 0.7, sd 3": (90, 30, ar(0.7, 3)),
    "90 to 30, AR(1) 0.9, sd 2": (90, 30, ar(0.9, 2)),
    "90 to 50, AR(1) 0.9, sd 2": (90, 50, ar(0.9, 2)),
}

if __name__ == "__main__":
    main()
