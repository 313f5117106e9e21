"""What several verbs share: where the ledger is, JSON output, one line per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqedit.cli.terminal import say
from seqedit.errors import InputError
from seqedit.support.printable import one_line

if TYPE_CHECKING:
    from evals.tasks.examples import TaskRows
    from seqedit.facts.loading import FactsRead
    from seqedit.facts.reading.unusable import Skipped


def default_place(place: str | None) -> str:
    """Where a command's ledger is; without a place, in this directory."""
    if place is None:
        place = "." if Path("ledger.db").is_file() else "ledger"
    return place


def open_ledger(place: str | None) -> Any:
    """The ledger of a command."""
    from ledger import Ledger

    return Ledger.open(default_place(place))


def facts_told(source: str, *, skip_unusable: bool = False, **how: Any) -> FactsRead:
    """Facts of a source; what was left out of them as unusable is said on stderr.

    Args:
        source: As `seqedit.load_records` takes it.
        skip_unusable: Leave out what cannot be used.
        how: Further arguments of `seqedit.facts.loading.read_facts`.
    """
    from seqedit.facts.loading import read_facts

    found = read_facts(source, skip_unusable=skip_unusable, **how)
    if found.skipped is not None:
        say(found.skipped, err=True)
    return found


def skipped_json(skipped: Skipped | None) -> dict[str, Any]:
    """What JSON output has of records that were left out; nothing where none was."""
    return {} if skipped is None else {"skipped": skipped.to_dict()}


def tokenizer_of(model: str | None, place: str | None = None) -> Callable[[], Any]:
    """What loads the tokenizer of a model, by default of a ledger's, when it is first needed."""

    def load() -> Any:
        from seqedit.models.loading import load_tokenizer

        name = model
        if name is None:
            with open_ledger(place) as opened:
                name = opened.base_model.name
        return load_tokenizer(str(name))

    return load


def files_of_tasks(
    given: Sequence[str] | None, num_fewshot: int | None = None, fewshot: Sequence[str] | None = None
) -> dict[str, str | TaskRows | None]:
    """Tasks with their rows, or None for a task's own data set, from options ``NAME`` and ``NAME=FILE``.

    Args:
        given: The tasks; a group has a folder.
        num_fewshot: How many examples stand before every document of each task that has a file.
        fewshot: ``NAME=FILE``: the examples of a task, or the folder of a group's.

    Raises:
        InputError: examples of a task that is not given with a file.
    """
    files = {name: file or None for name, _, file in (item.partition("=") for item in given or ())}
    if num_fewshot is None and not fewshot:
        return dict(files)
    from evals.tasks.examples import TaskRows

    examples = {name: file for name, _, file in (item.partition("=") for item in fewshot or ())}
    for name, file in examples.items():
        if not file or files.get(name) is None:
            raise InputError(
                f"--fewshot {name}{'=' if file else ''}{file}: give NAME=FILE, the examples of a task that is given "
                "with its rows (--task NAME=FILE)"
            )
    if not any(files.values()):
        raise InputError("--num-fewshot is for tasks with local rows: --task NAME=FILE")
    return {
        name: None if file is None else TaskRows(file, num_fewshot, examples.get(name)) for name, file in files.items()
    }


def table_lines(heads: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """A table as lines of text, its columns aligned; the last column is not padded.

    Args:
        heads: Names of the columns; a table whose names are all empty has no heading.
        rows: The cells, as text.
        indent: Before every line.
    """
    lines = [[one_line(cell) for cell in row] for row in rows]  # escapes count as they are printed
    if any(heads):
        lines.insert(0, list(heads))
    widths = [max((len(line[place]) for line in lines), default=0) for place in range(len(heads) - 1)]
    return [
        (indent + "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]])).rstrip()
        for line in lines
    ]


def number(value: Any, digits: int = 1, width: int = 6) -> str:
    """A number in a table, a dash where it is not known."""
    return ("-" if value is None else f"{value:.{digits}f}").rjust(width)


def shown_metric(task: Mapping[str, Any]) -> str | None:
    """Which metric of a task a table shows: the one whose change stands beside it, in the baseline's row the first."""
    named: str | None = task.get("metric")
    return named or next((k for k, v in task.items() if isinstance(v, (int, float))), None)


class StepTable:
    """A table with one line per step, printed as the steps come."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._tasks: list[str] = []
        self._probed: list[str] = []
        self.began = False

    def title(self, text: str) -> None:
        """A line above the table."""
        self._print("")
        self._print(text)

    def line(self, text: str) -> None:
        """A line between."""
        self._print(text)

    def baseline(self, baseline: Mapping[str, Any], step: Mapping[str, Any] | None = None) -> None:
        """Heading, and the unedited model as step 0; portability and locality where it, or a step, has any."""
        self.began = True
        self._probed = self._columns(baseline.get("counterfact") or {}, step or {})
        self._tasks = [name for name in baseline if name != "counterfact"]
        heads = "".join(f" {name[:12]:>12} " for name in self._tasks)
        self._print(f"{'step':>4} {'entry':<8}" + "".join(f"{h:>7}" for h in _COLUMNS)
                    + "".join(f" {name:>{_wide(name)}}" for name in self._probed) + heads + f"{'sec':>7}")  # fmt: skip
        scores = baseline.get("counterfact") or {}
        cells = "".join(" " + number(scores.get(name)) for name in ("ES", "PS", "NS", "S", "GE", "-", "-"))
        cells += self._probed_cells(scores)
        tasks = "".join(f" {self._task(baseline[name], 'base'):>13}" for name in self._tasks)
        self._print(f"{0:>4} {'base':<8}{cells}{tasks}{number(None, 1, 7)}")

    def step(self, step: Mapping[str, Any]) -> None:
        """One line."""
        earlier = step.get("earlier") or {}
        values = [step.get(name) for name in ("ES", "PS", "NS", "S", "GE")] + [earlier.get("ES"), earlier.get("S")]
        cells = "".join(" " + number(value) for value in values) + self._probed_cells(step)
        tasks = "".join(f" {self._task((step.get('tasks') or {}).get(name) or {}):>13}" for name in self._tasks)
        self._print(f"{step['step']:>4} {step['entry'][:8]:<8}{cells}{tasks}{number(step.get('seconds'), 1, 7)}")
        if rest := [name for name in self._columns(step) if name not in self._probed]:
            # A baseline that an earlier version has noted knows of none.
            self._print("     " + ", ".join(f"{name} {number(step[name]).strip()}" for name in rest))
        learnt, found = step.get("learnt"), step.get("diagnosis")
        if learnt:
            from seqedit.scoring.learnt import learnt_line

            self._print(f"     {learnt_line(learnt)}")
        if not found:
            return
        from seqedit.editing.diagnosis import line_of

        self._print(f"     {line_of(found)}")
        for fault in found["faults"]:
            self._print(f"     warning: {fault['text']}")

    @staticmethod
    def _columns(*scores: Mapping[str, Any]) -> list[str]:
        from evals.scores.probes import MAIN_COLUMNS

        return [name for name in MAIN_COLUMNS if any(given.get(name) is not None for given in scores)]

    def _probed_cells(self, scores: Mapping[str, Any]) -> str:
        return "".join(" " + number(scores.get(name), 1, _wide(name)) for name in self._probed)

    def _task(self, task: Mapping[str, Any], note: str | None = None) -> str:
        metric = shown_metric(task)
        if metric is None:
            return "-"
        if note is not None:
            return f"{task[metric]:.3f} {note:>6} "
        low, high = task.get("ci_low"), task.get("ci_high")
        # A star where the interval of the change leaves out 0.
        star = "*" if low is not None and high is not None and (low > 0 or high < 0) else " "
        return f"{task[metric]:.3f}({task.get('change') or 0:+.2f}){star}"

    def _print(self, line: str) -> None:
        say(line, stream=self.stream)


def _wide(name: str) -> int:
    return max(len(name), 6)


_COLUMNS = ("ES", "PS", "NS", "S", "GE", "old ES", "old S")
