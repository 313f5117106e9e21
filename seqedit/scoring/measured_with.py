"""What a ledger's numbers depend on that neither entries nor the fingerprint of the weights tell of.

The tokenizer, the version of lm-eval, and how scores are computed here. They are noted at the root when the unedited
model is first measured. A later measurement with another tokenizer is refused, since its numbers would stand beside
those of other tokens; another version is said. What ledgers of earlier versions were measured with is not known, and is
noted at the next measurement.
"""

from __future__ import annotations

import logging
from importlib.metadata import version

from ledger import Ledger
from seqedit.errors import InputError
from seqedit.forward.protocols import Tokenizer
from seqedit.scoring.kinds import KIND_MEASURED_WITH
from seqedit.text.identity import tokenizer_digest

_LOG = logging.getLogger(__name__)
MEASURES = 1
"""Raised where a score of the same model on the same texts comes out differently than in the version before."""


def note_measured_with(ledger: Ledger, tokenizer: Tokenizer, *, tasks: bool) -> None:
    """Compare what the unedited model was measured with to what measures now; note what is not known yet.

    Args:
        ledger: The ledger.
        tokenizer: The model's.
        tasks: Whether lm-eval measures.

    Raises:
        InputError: the tokenizer is another one.
    """
    root = ledger.root()
    stored = ledger.scores(root, KIND_MEASURED_WITH).get(KIND_MEASURED_WITH, {})
    now = {"tokenizer": tokenizer_digest(tokenizer), "measures": MEASURES}
    if tasks:
        now["lm_eval"] = version("lm_eval")
    if stored.get("tokenizer", now["tokenizer"]) != now["tokenizer"]:
        raise InputError(
            "the model's tokenizer is not the one that this ledger's scores were measured with, though the weights are "
            "the same; put the first one back, or begin another ledger"
        )
    for name, what in (("measures", "seqedit's scores"), ("lm_eval", "lm-eval")):
        if name in stored and name in now and stored[name] != now[name]:
            _LOG.warning(
                "earlier scores of this ledger are by %s of version %s, these by %s: differences between them may be "
                "the versions'", what, stored[name], now[name],
            )  # fmt: skip
    new = {name: value for name, value in now.items() if name not in stored}
    if new:
        ledger.add_scores(root, KIND_MEASURED_WITH, new)
