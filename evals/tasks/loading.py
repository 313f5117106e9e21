"""lm-eval's task objects: found by name or file, on their own data set or on local rows, and checked before a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from evals.statistics.measures import is_bypass
from evals.tasks.examples import SPLIT, TaskRows, leave_tested_out, set_examples
from evals.tasks.fields import check_names
from evals.tasks.foreign import task_errors
from evals.tasks.library import shipped_tasks
from evals.tasks.names import unknown_task
from seqedit.errors import InputError
from seqedit.support.reading import check_value, parse_json, read_text

LOADING = "cannot be loaded"


class TaskFinder:
    """Finds tasks; lm-eval's own index, which reads some 10,000 files (10 s), is made only where a name needs it."""

    def __init__(self) -> None:
        self._manager: Any = None
        self._glue: Any = None

    def load(self, name: str) -> dict[str, Any]:
        """A task by name or file; a group or tag gives all its tasks.

        Raises:
            InputError: no such task.
            EnvironmentFailure: its data set cannot be had, or it needs a package that is not there.
        """
        from lm_eval.tasks import TaskManager
        from lm_eval.tasks._yaml_loader import load_yaml

        path = _file_of(name)
        with task_errors(name, LOADING):
            if path is not None:
                _check_file(path)
                check_names(load_yaml(path, recursive=True), path)
                return dict(TaskManager(include_defaults=False).load([str(path)])["tasks"])
            self._entry(name)
            return dict(self._index().load([name])["tasks"])

    def load_on(self, name: str, rows: str | Path | TaskRows) -> Any:
        """A task over the documents of a local file, which replace its data set.

        Raises:
            InputError: no such task, a file is unreadable, or the task needs more than the files hold.
        """
        from lm_eval.tasks._yaml_loader import load_yaml

        path = _file_of(name)
        if path is None:
            path = self._entry(name).yaml_path
        if path is None:
            raise InputError(f"task {name!r} is a group of tasks; a local file can stand for one task only")
        with task_errors(name, LOADING):
            if Path(path).suffix in (".yaml", ".yml"):
                _check_file(Path(path))
            config = dict(load_yaml(path, recursive=True))
            check_names(config, path)
        if "group" in config:
            raise InputError(f"task {name!r} is a group of tasks; a local file can stand for one task only")
        if "class" in config:
            return _fact_task(config, name, TaskRows.of(rows))
        return _rows_task(config, name, TaskRows.of(rows))

    def members(self, name: str) -> tuple[str, ...]:
        """The tasks of a group or tag, those of its groups included, by name; a task's own name for a task.

        Raises:
            InputError: no such task or group, or a group that changes the settings of its tasks.
        """
        from lm_eval.tasks._index import Kind

        entry = self._entry(name)
        if entry.kind is Kind.TAG:
            children: list[Any] = sorted(entry.tags)
        elif entry.kind is Kind.GROUP:
            children = list((entry.cfg or {}).get("task") or ())
        else:
            return (name,)
        for child in children:
            if not isinstance(child, str):
                raise InputError(
                    f"task group {name!r} changes the settings of its tasks, which a folder of files cannot stand for; "
                    "name its tasks with a file each"
                )
        return tuple(dict.fromkeys(member for child in children for member in self.members(child)))

    def _index(self) -> Any:
        from lm_eval.tasks import TaskManager

        if self._manager is None:
            self._manager = TaskManager()
        return self._manager

    def _glue_index(self) -> Any:
        """The index of GLUE's folder, which is all of that group and read at once."""
        import lm_eval.tasks
        from lm_eval.tasks._index import TaskIndex

        if self._glue is None:
            self._glue = TaskIndex.build([Path(lm_eval.tasks.__file__).parent / "glue"])
        return self._glue

    def _entry(self, name: str) -> Any:
        entry = self._glue_index().get(name) or self._index().task_index.get(name)
        if entry is None:
            raise unknown_task(name, [*shipped_tasks(), *self._index().task_index])
        return entry


def check_task(name: str, task: Any) -> list[str]:
    """Refuse a task whose results could not be kept and compared document by document.

    Returns:
        Metrics that are left out because lm-eval computes nothing for them.

    Raises:
        InputError: the task needs images or sound, runs code that the model writes, judges whole texts, or has no other
            metric.
    """
    if getattr(task, "MULTIMODAL", False):
        raise InputError(f"task {name!r} needs images or sound; only texts are given to the model")
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(f"task {name!r} runs code that the model writes; run it with lm_eval on the exported adapter")
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise InputError(
            f"task {name!r} has no metric that is a mean over documents ({', '.join(task.aggregation())} are of whole "
            "texts); for perplexity give a text, or run it with lm_eval on the exported adapter"
        )
    _check_target(name, task)
    left_out = [metric for metric, aggregation in task.aggregation().items() if is_bypass(aggregation)]
    if len(left_out) == len(task.aggregation()):
        raise InputError(f"task {name!r} has no metric: lm-eval only logs what the model says")
    return left_out


def _check_target(name: str, task: Any) -> None:
    """Refuse a target that is none of a document's choices: lm-eval would count every answer as wrong.

    It takes the name of a column that is missing for the answer itself. A number out of range is how a data set hides
    its answers.
    """
    from lm_eval.api.task import ConfigurableTask

    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return
    for doc in islice(task.eval_docs, 1):
        target, choices = task.doc_to_target(doc), task.doc_to_choice(doc)
        wrong = [
            t for t in (target if isinstance(target, list) else [target]) if isinstance(t, str) and t not in choices
        ]
        if wrong:
            raise InputError(
                f"task {name!r}: its target {wrong[0]!r} is neither a column of its rows nor one of the choices "
                f"{', '.join(map(repr, choices))}"
            )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, or of a JSON file that holds a list.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        text = read_text(path)
    except InputError as error:
        raise InputError(f"data file {error}") from error
    try:
        if text.lstrip().startswith("["):
            rows = parse_json(text, path)
        else:
            lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
            rows = [parse_json(line, f"{path}, line {number}") for number, line in lines]
    except InputError as error:
        where = str(error).removeprefix(f"{path}, ").removeprefix(f"{path}: ")
        raise InputError(f"data file {path} is neither JSONL nor JSON: {where}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"data file {path} must hold at least one row, every row an object")
    return list(rows)


def _check_file(path: Path) -> None:
    """Refuse a task file that is no YAML mapping; lm-eval looks into it as into one."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Leaves lm-eval's references to functions as they are written."""

    Loader.add_constructor("!function", lambda _, node: node.value)
    text = read_text(path)
    try:
        config = yaml.load(text, Loader)
    except RecursionError:
        raise InputError(f"task file {path}: malformed (nested too deeply)") from None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"task file {path}: malformed ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(config, Mapping):
        raise InputError(f"task file {path} must hold a mapping of settings, got {type(config).__name__}")
    check_value(config, f"task file {path}")


def _file_of(name: str) -> Path | None:
    """The file of a task given as one, shipped with this package, or of GLUE; None for lm-eval's index to find."""
    import lm_eval.tasks

    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"task file {name} does not exist")
        return Path(name).resolve()
    if name in (shipped := shipped_tasks()):
        return shipped[name].path
    glue = Path(lm_eval.tasks.__file__).parent / "glue" / name / "default.yaml"
    return glue if glue.is_file() else None


def _on_rows(config: dict[str, Any], name: str, rows: TaskRows) -> dict[str, Any]:
    """The packaged task's config over rows held in memory."""
    from datasets import Dataset

    split = config.get("test_split") or config.get("validation_split") or "validation"
    documents = {split: Dataset.from_list(read_rows(Path(rows.file)))}
    set_examples(config, name, rows)
    if rows.fewshot_file is not None:
        documents[SPLIT] = Dataset.from_list(read_rows(Path(rows.fewshot_file)))
    for field in ("training_split", "dataset_kwargs", "tag"):
        config.pop(field, None)
    config |= {"task": name, "custom_dataset": lambda **_: documents}
    # A task that has both would look for the other one as well.
    config["validation_split"] = None if config.get("test_split") else split
    return config


def _rows_task(config: dict[str, Any], name: str, rows: TaskRows) -> Any:
    from jinja2 import UndefinedError
    from lm_eval.api.task import ConfigurableTask

    config, file = _on_rows(config, name, rows), rows.file
    with task_errors(name, f"cannot be used on {rows.file}"):
        try:
            task = ConfigurableTask(config=config)
            if task.OUTPUT_TYPE == "multiple_choice":
                _check_targets(task, task.eval_docs[0])
            if rows.fewshot_file is not None:
                file = rows.fewshot_file
                for doc in task.sampler.df:
                    task.doc_to_text(doc), task.doc_to_target(doc)
                    if task.OUTPUT_TYPE == "multiple_choice":
                        _check_targets(task, doc)
                leave_tested_out(task, name, rows)
        except (UndefinedError, KeyError) as error:
            raise InputError(f"data file {file}: a column that task {name!r} needs is missing ({error})") from error
    return task


def _check_targets(task: Any, doc: Any) -> None:
    """Refuse a document without a right choice; lm-eval takes the name of a missing column for the answer itself."""
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    targets = target if isinstance(target, list) else [target]
    if not all(t in choices if isinstance(t, str) else isinstance(t, int) and 0 <= t < len(choices) for t in targets):
        raise KeyError(f"no right choice among {choices}: {target!r}")


def _fact_task(config: dict[str, Any], name: str, rows: TaskRows) -> Any:
    """A task of facts over the records of a file, in any layout."""
    from evals.tasks.facts import FactTask

    if not (isinstance(config["class"], type) and issubclass(config["class"], FactTask)):
        raise InputError(f"task {name!r} is written in Python and finds its data set itself; leave the file out")
    if rows.num_fewshot or rows.fewshot_file is not None:
        raise InputError(f"task {name!r}: scores of facts have no examples in the prompt (num_fewshot, fewshot_file)")
    metadata = {**(config.get("metadata") or {}), "records": str(rows.file)}
    return config["class"](config={**config, "task": name, "metadata": metadata})
