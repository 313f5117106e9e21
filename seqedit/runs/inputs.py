"""What a run's configuration names, looked at before anything is imported that computes: a slip costs no waiting."""

from __future__ import annotations

from evals.tasks.names import check_names, check_rows
from seqedit.errors import InputError
from seqedit.models.names import check_device, check_dtype, check_model
from seqedit.runs.config import RunConfig
from seqedit.runs.facts import batches_of_sets, load_sets
from seqedit.text.lookup import check_context_templates
from seqedit.text.plain_text import TextSource


def check_inputs(config: RunConfig, *, new_files: bool = False) -> None:
    """Refuse a run whose model, facts, batches, tasks or texts cannot be had.

    Args:
        config: The run.
        new_files: Whether only new files are to be edited, so that there may be none, and batches are not known yet.

    Raises:
        InputError: names what is wrong. A Hub id is not asked for.
    """
    check_model(config.model)
    check_dtype(config.dtype)
    check_device(config.device)
    if config.context_templates is not None:
        check_context_templates(config.context_templates)
    for text in (config.evals.perplexity_text, config.second_moments.text):
        if text is not None:
            TextSource(text).check()
    check_rows(config.tasks)
    if config.files == () and not new_files:
        raise InputError(f"field 'facts': no file matches {config.facts}")
    sets = load_sets(config)
    if not new_files:
        batches_of_sets(sets, config)
    check_names(config.tasks)
