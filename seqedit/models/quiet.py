"""transformers without its messages and progress bars, which are put back as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Errors only and no progress bars from transformers, unless ``TRANSFORMERS_VERBOSITY`` is set.

    Its settings are those of the process, so each is put back as the caller had it: the library's level and bars, and
    the Hub client's bars, which transformers switches together with its own.
    """
    import huggingface_hub.utils
    from transformers.utils import logging

    hub: Any = huggingface_hub.utils
    if "TRANSFORMERS_VERBOSITY" in os.environ:
        yield
        return
    logger = logging.get_logger("transformers")  # asked for by name, it is the library's own
    level, bars, hub_hidden = logger.level, logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            logging.enable_progress_bar()
            if hub_hidden:
                hub.disable_progress_bars()
        elif not hub_hidden:
            hub.enable_progress_bars()
