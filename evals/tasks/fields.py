"""What a task file names: lm-eval takes an unknown name in silence, or ends in an error that names something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

_TYPES = ("loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice")


def check_names(config: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a task whose file names a metric, aggregation, filter or kind of output that lm-eval does not know.

    Args:
        config: The file, with what it includes.
        path: The file, for messages.

    Raises:
        InputError: names the file and the name, and what was probably meant.
    """
    import lm_eval.filters  # noqa: F401  (registers the filters)
    from lm_eval.api.registry import AGGREGATION_REGISTRY, FILTER_REGISTRY, METRIC_REGISTRY

    where = f"task file {path}"
    name = config.get("task", config.get("group"))
    if (
        "task" in config
        and "group" not in config
        and not (isinstance(name, str) and name.strip() and name.isprintable())
    ):
        raise InputError(f"{where}: field 'task' must be the task's name, got {name!r}")
    kind = config.get("output_type")
    if kind is not None and kind not in _TYPES:
        raise _unknown(where, "output_type", kind, _TYPES)
    for metric in _mappings(config.get("metric_list"), where, "metric_list"):
        named, made = metric.get("metric"), metric.get("aggregation")
        if named is None:
            raise InputError(f"{where}: an item of 'metric_list' has no 'metric'")
        if isinstance(made, str) and made not in AGGREGATION_REGISTRY:
            raise _unknown(where, "aggregation", made, AGGREGATION_REGISTRY)
        # With an aggregation it may be one of the package evaluate, or of the task's own process_results.
        if isinstance(named, str) and made is None and named not in METRIC_REGISTRY and "process_results" not in config:
            raise _unknown(where, "metric", named, METRIC_REGISTRY)
    for pipeline in _mappings(config.get("filter_list"), where, "filter_list"):
        for step in _mappings(pipeline.get("filter"), where, "filter"):
            function = step.get("function")
            if not callable(function) and function not in FILTER_REGISTRY:
                raise _unknown(where, "function", function, FILTER_REGISTRY)


def _mappings(value: Any, where: str, field: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise InputError(f"{where}: field '{field}' must be a list of mappings, got {value!r}")
    return value


def _unknown(where: str, field: str, value: Any, known: Iterable[str]) -> InputError:
    hint = did_you_mean(str(value), list(known))
    return InputError(f"{where}: unknown {field} {value!r}{hint}")
