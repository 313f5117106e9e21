"""What merging does to edits: `sum`, `solve`, `ties` and `dare` beside one fresh joint edit, on the shipped demo world.

    python examples/merge_study.py --method emmet --batches 4 --out out/merge-study

Two histories of the same facts are merged: batches that were all computed on one state, each on a branch of its own
(as a team would), and batches that were computed one after the other. The table is that of docs/guide/ledger.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from evals.scores.counterfact import score_records
from ledger import Ledger
from seqedit.editing.settings import method_config
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, requests_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import provide_second_moments
from seqedit.session.merge import merge
from seqedit.session.merging import How
from seqedit.session.session import Session

HOWS: tuple[How, ...] = ("sum", "solve", "ties", "dare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo-llama")
    parser.add_argument("--method", default="emmet", help="a closed form")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the facts")
    parser.add_argument("--out", type=Path, default=Path("out/merge-study"))
    given = parser.parse_args()

    config = method_config(given.method, preset=given.model)
    facts = load_records("demo:counterfact.json")
    random.Random(given.seed).shuffle(facts)
    facts = facts[: given.batches * given.batch_size]
    batches = [facts[i : i + given.batch_size] for i in range(0, len(facts), given.batch_size)]
    edited = EditedModel(*load_model(given.model), name=given.model)
    moments = provide_second_moments(edited, config.layers)
    shutil.rmtree(given.out, ignore_errors=True)
    with Ledger.create(given.out / "ledger", edited.base_model) as ledger:
        session = Session(edited, ledger, moments)
        _row("history", "how", "ES", "PS", "NS")
        _row("---", "---", "---:", "---:", "---:")

        def score(history: str, how: str) -> None:
            scores = score_records(edited.model, edited.tokenizer, facts).summary
            _row(history, how, *(f"{scores[name]:.1f}" for name in ("ES", "PS", "NS")))

        def start(branch: str, rev: str) -> None:
            ledger.start_branch(branch, rev)
            ledger.switch(branch)
            session.checkout()

        def merged(history: str, entries: Sequence[str], rev: str) -> None:
            for how in HOWS:
                start(f"{history.replace(' ', '-')}/{how}", rev)
                merge(session, ledger, entries, how)
                score(history, how)

        def edit(batch: Sequence[Record]) -> str:
            return session.edit(requests_of(batch), given.method, config).id

        root = ledger.root()
        parallel = []
        for number, batch in enumerate(batches):
            start(f"batch-{number}", root)
            parallel.append(edit(batch))
        merged("one parent", parallel, root)
        start("sequence", root)
        sequence = [edit(batch) for batch in batches]
        score("in sequence", "not merged")
        merged("in sequence", sequence, "sequence")
        start("joint", root)
        edit(facts)
        score("-", "fresh joint edit")


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
