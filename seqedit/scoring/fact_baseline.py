"""Scores of the unedited model, record by record, kept at a ledger's root by what they were measured on.

A record's key is a digest of the token ids that are scored for it. With the ledger's base model that is all its scores
depend on, so a record that is asked for by another run, another file or in other company is found, and one of which
anything differs is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.scores.counterfact import TokenizedPrompt, TokenizedRecord
from evals.scores.probes import ProbeScore, compared
from evals.scores.scores import PromptScore, RecordScore, Scores
from ledger import Ledger
from seqedit.errors import CheckFailed
from seqedit.facts.requests import Record
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.kinds import KIND_UNEDITED as KIND_UNEDITED
from seqedit.support.digests import json_digest

_GROUPS = ("rewrite", "paraphrase", "neighborhood")
_FIELDS = ("nll_new", "nll_true", "argmax_correct", "argmax_share")


def record_key(record: TokenizedRecord) -> str:
    """SHA-256 (hex) of the token ids of a record, group by group."""

    def ids(prompt: TokenizedPrompt) -> list[Any]:
        return [[list(part) for part in pair] if pair is not None else None for pair in (prompt.new, prompt.true)]

    told: dict[str, Any] = {group: [ids(prompt) for prompt in getattr(record, group)] for group in _GROUPS}
    if record.probes:  # records without any have the key that earlier versions gave them
        told["probes"] = [[p.kind, p.name, p.answered, [[list(part) for part in pair] for pair in p.pairs]]
                          for p in record.probes]  # fmt: skip
    return json_digest(told)


class FactBaseline:
    """What a ledger holds of the unedited model's scores of some records.

    Args:
        ledger: The ledger.
        evaluator: Whose tokenizer makes the records' tokens.
        records: The records.
    """

    def __init__(self, ledger: Ledger, evaluator: Evaluator, records: Sequence[Record]) -> None:
        self.ledger, self.records = ledger, list(records)
        self._tokens = evaluator.tokens(self.records)
        self._keys = [record_key(tokens) for tokens in self._tokens]
        self._known = ledger.scores(ledger.root(), KIND_UNEDITED).get(KIND_UNEDITED, {})

    @property
    def missing(self) -> list[Record]:
        """The records that have to be measured, each once."""
        found = {k: r for k, r in zip(self._keys, self.records, strict=True) if k not in self._known}
        return list(found.values())

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep the scores of `missing`, in its order, as `Scores.to_dict` has them under "records"."""
        keys = list(dict.fromkeys(key for key in self._keys if key not in self._known))
        rows = {key: _rows(record) for key, record in zip(keys, records, strict=True)}
        self.ledger.add_scores(self.ledger.root(), KIND_UNEDITED, rows)
        self._known |= rows

    def scores(self) -> Scores:
        """Scores of all the records, in their order.

        Raises:
            CheckFailed: one was not measured.
        """
        if self.missing:
            raise CheckFailed("the ledger lacks scores of the unedited model for these records")
        return Scores(
            tuple(
                _score(record, tokens, self._known[key])
                for record, tokens, key in zip(self.records, self._tokens, self._keys, strict=True)
            )
        )

    def averages(self) -> dict[str, float | None]:
        """Averages over all the records, in percent."""
        scores = self.scores()
        return {**scores.summary, **scores.probed}


def _rows(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {g: [[prompt[name] for name in _FIELDS] for prompt in record[g]] for g in _GROUPS}
    return rows | ({"probes": record["probes"]} if record.get("probes") else {})


def _score(record: Record, tokens: TokenizedRecord, rows: Mapping[str, Sequence[Any]]) -> RecordScore:
    def prompts(group: str) -> tuple[PromptScore, ...]:
        paired = zip(getattr(tokens, group), rows[group], strict=True)
        return tuple(PromptScore(prompt.prompt, **dict(zip(_FIELDS, row, strict=True))) for prompt, row in paired)

    rewrite, paraphrase, neighborhood = map(prompts, _GROUPS)
    probes = tuple(ProbeScore.from_dict(row) for row in rows.get("probes", ()))
    # The unedited model against itself: its locality is 1.
    return RecordScore(record.request.case_id, rewrite, paraphrase, neighborhood, compared(probes, probes))
