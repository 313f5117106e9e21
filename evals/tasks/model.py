"""The model side of lm-eval: an in-memory model whose likelihoods come from our own scoring."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from lm_eval.models.huggingface import HFLM

from evals.likelihood.teacher_forcing import Scorer, score_continuations
from seqedit.errors import InputError
from seqedit.forward.access import input_device
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.support.random_state import seeded as seeded_devices


class InMemoryModel(HFLM):
    """lm-eval's model around a loaded model: its tokenization, but one forward pass per distinct context.

    The stock class runs the LM head and log-softmax over every position; here only the positions that predict
    a choice go through it. Log-likelihoods agree to rounding (there is a test). Tokens are lm-eval's own: the
    tokenizer's default special tokens once in front of the context (a BOS for Llama, none for GPT-2).
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        max_tokens_per_batch: int,
        scorer: Scorer | None = None,
    ) -> None:
        # lm-eval sets a padding token; the caller's tokenizer is not ours to change.
        super().__init__(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        self._max_tokens_per_batch, self._scorer = max_tokens_per_batch, scorer
        self.cut: set[tuple[int, ...]] = set()
        """Contexts that were too long and lost their beginning."""

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As the stock method, with a progress bar only on a terminal."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not sys.stderr.isatty())

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """As the stock method, with a progress bar only on a terminal.

        Raises:
            InputError: the model has too few positions for the text that a task asks for.
        """
        try:
            return super().generate_until(requests, disable_tqdm=disable_tqdm or not sys.stderr.isatty())
        except AssertionError as error:
            names = ", ".join(dict.fromkeys(str(request.task_name) for request in requests))
            raise InputError(f"task {names!r} generates text and cannot be run with this model: {error}") from error

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        pairs = []
        for _, context, continuation in requests:
            # Too long a text loses its beginning, as in lm-eval; the continuation always stays.
            room = max(1, self.max_length + 1 - len(continuation))
            if len(context) > room:
                self.cut.add(tuple(context))
            pairs.append((context[-room:], continuation))
        scorer = self._scorer or score_continuations
        scored = scorer(self.model, pairs, max_tokens_per_batch=self._max_tokens_per_batch)
        return [(-s.nll, s.argmax) for s in scored]


@contextmanager
def seeded(model: CausalLM, seed: int = 1234) -> Iterator[None]:
    """The same draws at every call, for tasks that sample their texts; the caller's random state comes back."""
    with seeded_devices(seed, [input_device(model)]):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's log lines, its and datasets' progress bars and its metrics' warnings out of the caller's output.

    On a terminal the progress bars stay.
    """
    import datasets
    import lm_eval.api.task as task_module

    logger = logging.getLogger("lm_eval")
    level = logger.level
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # e.g. F1 without a positive prediction, which simply is 0
        if not sys.stderr.isatty():
            silent = partial(task_module.tqdm, disable=True)
            stack.enter_context(mock.patch.object(task_module, "tqdm", silent))
            if datasets.is_progress_bar_enabled():
                datasets.disable_progress_bars()
                stack.callback(datasets.enable_progress_bars)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
