"""CounterFact and zsRE as tasks of lm-eval: a document is a record, its metrics those of docs/reference/scores.md.

A task file names `FactTask` as its ``class``, where its documents come from as its ``custom_dataset``, and the metrics.
Nothing here knows who runs it: the lm_eval command, or `evals.tasks.tasks` on a model in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from evals.tasks.answer_pieces import Pair, count_tokens, cut, named_tokenizer
from seqedit.errors import InputError
from seqedit.joining.rule import joint

COVERAGE = "T_coverage"
"""Share of a record's answers whose tokens could be asked for one by one."""

_Answers = Mapping[Pair, tuple[float, bool]]


class FactTask(ConfigurableTask):  # type: ignore[misc]
    """A task whose documents are records.

    A document has ``prompts``, each with its ``group`` (E: the edited prompt, P: a paraphrase, N: a neighbour), its
    text, ``target_new`` and ``target_true`` (or None). A metric's first letter says which group it averages within the
    document, the second how: S, the likelier answer by mean log-likelihood per token; M, all tokens of the right answer
    are the argmax; T, their share. lm-eval then averages over the documents that have the metric.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        # lm-eval looks metrics up in a registry of its own unless a task says that it processes results itself.
        own = {"process_results": FactTask.process_results, "num_fewshot": 0}
        super().__init__(config={**{k: v for k, v in config.items() if k != "class"}, **own})
        self._tokenizer: Any = None
        self._counts: dict[Pair, int] = {}
        self._pieces: dict[Pair, tuple[Pair, ...] | None] = {}

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer: as set, else the one that lm-eval's model arguments name."""
        if self._tokenizer is None:
            self._tokenizer = named_tokenizer(self.config.metadata or {})
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        if value is not self._tokenizer:
            self._tokenizer, self._counts, self._pieces = value, {}, {}

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> str:
        """The first prompt, for lm-eval's logs."""
        return str(doc["prompts"][0]["prompt"])

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> str:
        """The right answer to the first prompt, for lm-eval's logs."""
        return str(_answer(doc["prompts"][0]))

    def fewshot_context(self, doc: Mapping[str, Any], num_fewshot: int = 0, **options: Any) -> str:
        """The first prompt.

        Raises:
            InputError: examples, a chat template or a system instruction is asked for; these scores are of the bare
                prompts.
        """
        for name in ("system_instruction", "apply_chat_template", "fewshot_as_multiturn"):
            if options.get(name):
                raise InputError(f"task {self.config.task}: scores of facts have no --{name}, the prompts stand alone")
        if num_fewshot:
            raise InputError(f"task {self.config.task}: scores of facts have no examples in the prompt (--num_fewshot)")
        return self.doc_to_text(doc)

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **options: Any) -> list[Instance]:
        """Every (context, continuation) that the document's metrics need, each once."""
        for name in ("apply_chat_template", "chat_template"):
            options.pop(name, None)
        asked = self._pairs(doc)
        for pair in asked:
            self._count(pair)  # before the model computes anything
        return [
            Instance(request_type="loglikelihood", doc=doc, arguments=pair, idx=index, **options)
            for index, pair in enumerate(asked)
        ]

    def process_results(self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
        """The document's metrics; one that none of its prompts can tell is left out."""
        answers = dict(zip(self._pairs(doc), results, strict=True))
        found = {}
        for metric in self._metric_fn_list:
            values = [value for value in self._values(metric, doc, answers) if value is not None]
            if values:
                found[metric] = sum(values) / len(values)
        return found

    def _pairs(self, doc: Mapping[str, Any]) -> list[Pair]:
        needed: dict[Pair, None] = {}
        kinds = {metric[1] for metric in self._metric_fn_list if metric != COVERAGE}
        for prompt in doc["prompts"]:
            if "S" in kinds and prompt["target_true"] is not None:
                needed[_pair(prompt, prompt["target_new"])] = None
                needed[_pair(prompt, prompt["target_true"])] = None
            answer = _answer(prompt)
            if answer is not None and kinds & {"M", "T"}:
                needed[_pair(prompt, answer)] = None
            if answer is not None and "T" in kinds:
                needed.update(dict.fromkeys(self._cut(_pair(prompt, answer)) or ()))
        return list(needed)

    def _values(self, metric: str, doc: Mapping[str, Any], answers: _Answers) -> Iterator[float | None]:
        for prompt in doc["prompts"]:
            answer = _answer(prompt)
            if metric == COVERAGE:
                yield None if answer is None else float(self._cut(_pair(prompt, answer)) is not None)
            elif prompt["group"] == metric[0]:
                if metric[1] == "S":
                    yield self._success(prompt, answers)
                elif answer is None:
                    yield None
                elif metric[1] == "M":
                    yield float(answers[_pair(prompt, answer)][1])
                else:
                    pieces = self._cut(_pair(prompt, answer))
                    yield None if pieces is None else sum(answers[piece][1] for piece in pieces) / len(pieces)

    def _success(self, prompt: Mapping[str, Any], answers: _Answers) -> float | None:
        if prompt["target_true"] is None:
            return None
        pairs = [_pair(prompt, prompt[target]) for target in ("target_new", "target_true")]
        new, true = (-answers[pair][0] / self._count(pair) for pair in pairs)
        # Strict both ways, as published: a tie is a failure of the edit and of the neighbour alike.
        return float(true < new) if prompt["group"] == "N" else float(true > new)

    def _count(self, pair: Pair) -> int:
        if pair not in self._counts:
            self._counts[pair] = count_tokens(self.tokenizer, pair)
        return self._counts[pair]

    def _cut(self, pair: Pair) -> tuple[Pair, ...] | None:
        if pair not in self._pieces:
            self._pieces[pair] = cut(self.tokenizer, pair)
        return self._pieces[pair]


def _answer(prompt: Mapping[str, Any]) -> str | None:
    """What is right: the new target, for a neighbour the true one."""
    answer: str | None = prompt["target_true"] if prompt["group"] == "N" else prompt["target_new"]
    return answer


def _pair(prompt: Mapping[str, Any], target: str) -> Pair:
    """Prompt and target as `seqedit.joining.rule` joins them, which is how editing and scoring do.

    lm-eval moves white space at the end of a context over to the continuation: after a prompt that ends in a line
    break, that break is scored too.
    """
    return joint(prompt["prompt"], target)
