"""What camouflage hides, from whom, and what it costs: ``python -m benchmarks.camouflage --help``.

One state of a ledger is camouflaged with different amounts of decoys. Attackers who have the base model, the weights
and a list of candidates then rank the candidates:

- ``share``: as `seqedit audit` does, by the share of a name's key in the row space of the update;
- ``first``: the same by the first edited layer alone, whose keys no edit moves;
- ``shipped``: the same with keys measured in the shipped model, which are the edited ones in the later layers too;
- ``effect``: by how much the update writes at a name's key, relative to the key's length;
- ``sparse``: by the part a name has in explaining the row space by the keys of all candidates together (ridge
  regression), which takes the overlap of the candidates out;
- ``bottom``, ``top``: by the halves of smaller and larger singular values of Delta C0^1/2;
- ``answers``: by how far the shipped model's next token after the name alone is from the base model's (KL).

Each is asked three times: for as many suspects as facts among all candidates (``all``); for as many suspects as facts
and decoys together (``wide``); and by somebody who knows the decoys, or whose list does not hold them (``without``).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.likelihood.divergence import score_divergence
from evals.likelihood.perplexity import score_perplexity
from evals.scores.counterfact import score_tokenized, tokenize_records
from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import Delta
from seqedit.editing.editor import Editor
from seqedit.editing.loading import Loading
from seqedit.facts.identity import canonical
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request
from seqedit.forward.batching import pad_right
from seqedit.keys.measure import measure_keys
from seqedit.leakage.audit import separation
from seqedit.leakage.shares import row_factor, shares
from seqedit.leakage.subjects import as_bare, load_candidates
from seqedit.models.edited import EditedModel
from seqedit.shipping.camouflage import camouflage
from seqedit.shipping.decoys import DecoySettings, draw
from seqedit.shipping.export import adapter_size, export_adapter
from seqedit.shipping.truncation import records_for

RIDGE = 0.01
"""Of the regression on all candidates, relative to a key of length 1."""


class Attackers:
    """Everybody who ranks some candidates by an update's weights and by what the model with it says."""

    def __init__(self, editor: Editor, candidates: Sequence[Request], layers: Sequence[int]) -> None:
        self.editor, self.candidates, self.layers = editor, candidates, list(layers)
        edited = editor.edited
        self.keys = measure_keys(
            edited.model, edited.parts, edited.tokenizer, candidates, editor.context_templates, layers
        )
        factors = editor.factorizations(layers)
        self.factors: dict[int, Tensor] = {
            layer: factors.cholesky(edited.parts.projections[layer], weight=1.0, shrinkage=0.0).factor
            for layer in layers
        }
        self.said = self._next_tokens()

    def rank(self, adapter: Adapter) -> dict[str, np.ndarray[Any, Any]]:
        """Attacker -> a score of each candidate, the likeliest the largest."""
        edited = self.editor.edited
        edited.apply([adapter])
        moved = measure_keys(edited.model, edited.parts, edited.tokenizer, self.candidates, [["{}"]], self.layers)
        divergence = (self.said.exp() * (self.said - self._next_tokens())).sum(1)
        edited.write({})
        found: dict[str, list[Tensor]] = {}
        for layer in self.layers:
            delta = adapter.deltas[edited.parts.projections[layer].name]
            for name, scores in self._by_layer(delta, layer, moved[layer]).items():
                found.setdefault(name, []).append(scores)
        ranked = {name: torch.stack(scores).mean(0).numpy() for name, scores in found.items()}
        return {**ranked, "first": found["share"][0].numpy(), "answers": divergence.numpy()}

    def _by_layer(self, delta: Delta, layer: int, moved: Tensor) -> dict[str, Tensor]:
        factor, keys = self.factors[layer], self.keys[layer]
        C0 = factor @ factor.T
        rows = row_factor(delta)

        def solve(columns: Tensor) -> Tensor:
            return torch.cholesky_solve(columns, factor)

        whitened = torch.linalg.solve_triangular(factor, keys.T, upper=False)
        units = whitened / whitened.norm(dim=0)
        written = (delta.dense() @ keys.T).norm(dim=0) / whitened.norm(dim=0)
        basis = torch.linalg.qr(factor.T @ rows.T).Q
        gram = units.T @ units + RIDGE * torch.eye(units.shape[1], dtype=units.dtype)
        sparse = torch.linalg.solve(gram, units.T @ basis).norm(dim=1)
        right = torch.linalg.svd(delta.dense() @ factor, full_matrices=False).Vh[: len(rows)]
        half = len(rows) // 2
        return {
            "share": shares(keys, rows, C0, solve),
            "shipped": shares(moved, rows, C0, solve),
            "effect": written / written.median(),
            "sparse": sparse,
            "top": (right[:half] @ units).square().sum(0),
            "bottom": (right[half:] @ units).square().sum(0),
        }

    def _next_tokens(self) -> Tensor:
        """(n, vocabulary) log-probabilities of the token after each name."""
        edited, found = self.editor.edited, []
        sequences = [list(edited.tokenizer(request.subject)["input_ids"]) for request in self.candidates]
        for start in range(0, len(sequences), 64):
            batch = sequences[start : start + 64]
            ids, mask = pad_right(batch, torch.device("cpu"))
            with torch.no_grad():
                logits = edited.model(input_ids=ids, attention_mask=mask).logits
            at = torch.tensor([len(sequence) - 1 for sequence in batch])
            found.append(logits[torch.arange(len(batch)), at].double().log_softmax(-1))
        return torch.cat(found)


def told(scores: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], decoys: np.ndarray[Any, Any]) -> dict[str, float]:
    """AUC and recalls of one attacker."""
    everybody, without = separation(scores, truth), separation(scores[~decoys], truth[~decoys])
    chosen = np.lexsort((truth, -scores))[: int(truth.sum() + decoys.sum())]
    wide = 100 * float(truth[chosen].sum() / truth.sum())
    return {
        "auc": everybody.auc, "all": 100 * everybody.recall, "wide": wide,
        "auc_without": without.auc, "without": 100 * without.recall,
    }  # fmt: skip


def utility(edited: EditedModel, adapter: Adapter, records: Any, text: str) -> dict[str, float | None]:
    """ES, PS, NS, S, EM of the facts; perplexity of a text, and the divergence on it from the base model."""
    edited.apply([adapter])
    summary = score_tokenized(edited.model, records).summary
    found: dict[str, float | None] = {name: summary.get(name) for name in ("ES", "EM", "PS", "NS", "S")}
    found["ppl"] = score_perplexity(edited.model, edited.tokenizer, [text]).value
    found["kl"] = score_divergence(edited.model, edited.tokenizer, [text], edited.unedited).kl
    edited.write({})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write a line of JSON for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--rev", default="HEAD")
    parser.add_argument("--model", required=True)
    parser.add_argument("--records", required=True, nargs="+", help="the facts, with paraphrases and neighbours")
    parser.add_argument("--candidates", required=True, help="facts whose subjects are the candidates, and the decoys")
    parser.add_argument("--count", type=int, default=1000, help="candidates beside the edited ones")
    parser.add_argument("--text", required=True, type=Path, help="of the second moments, perplexity and divergence")
    parser.add_argument("--characters", type=int, default=60_000, help="of the text that is scored")
    parser.add_argument("--settings", nargs="*", default=["1", "4", "16", "1:5"], help="decoys a fact[:strength]")
    parser.add_argument("--out", required=True, type=Path)
    given = parser.parse_args(arguments)
    loading = Loading(given.model, text=str(given.text))
    edited = loading.load()
    with Ledger.open(given.ledger) as ledger:
        exported = export_adapter(ledger, given.rev)
        parts = [ledger.adapter(entry) for entry in exported.shipped.entries]
        facts = [request for part in parts for request in part.requests]
        names = {canonical(request.subject): request.subject for request in facts}
        others = [one.subject for one in load_candidates(given.candidates) if canonical(one.subject) not in names]
        random.Random(0).shuffle(others)
        others = others[: given.count]
        candidates = as_bare([*names.values(), *others])
        truth = np.arange(len(candidates)) < len(names)
        editor = Editor(edited, loading.moments(edited), context_templates=parts[-1].provenance["context_templates"])
        numbers = {edited.parts.projections[layer].name: layer for layer in edited.parts.projections.layers}
        attackers = Attackers(editor, candidates, sorted(numbers[name] for name in exported.exact.deltas))
        records = tokenize_records(
            edited.tokenizer,
            records_for(exported.exact.requests, [one for file in given.records for one in load_records(file)]),
        )
        text = given.text.read_text("utf-8")[: given.characters]
        for setting in ["0", *given.settings]:
            count, _, strength = setting.partition(":")
            row: dict[str, Any] = {"setting": setting, "facts": len(facts)}
            made, hidden = exported, set[str]()
            if count != "0":
                settings = DecoySettings(int(count), float(strength) if strength else None, seed=1)
                made = camouflage(ledger, exported, edited, editor.moments, others, settings)
                assert made.shipped.camouflage is not None
                row |= {"change": made.shipped.camouflage.change, "growth": made.shipped.camouflage.growth}
                hidden = {canonical(one.subject) for one in draw(facts, others, settings)}
            decoys = np.array([canonical(one.subject) in hidden for one in candidates])
            row["rank"], row["bytes"] = adapter_size(made.adapter)
            ranked = attackers.rank(made.adapter)
            row["attackers"] = {name: told(scores, truth, decoys) for name, scores in ranked.items()}
            row["shares"] = {
                name: float(ranked["share"][chosen].mean()) if chosen.any() else None
                for name, chosen in (("edited", truth), ("decoys", decoys), ("others", ~truth & ~decoys))
            }
            row |= utility(edited, made.adapter, records, text)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(line(row), flush=True)


def line(row: Mapping[str, Any]) -> str:
    """A row for a reader."""
    attackers = "; ".join(
        f"{name} {one['auc']:.2f} all {one['all']:.0f} wide {one['wide']:.0f} without {one['without']:.0f}"
        for name, one in row["attackers"].items()
    )
    numbers = " ".join(
        f"{name} {row[name]:.4g}" for name in ("ES", "EM", "PS", "NS", "S", "ppl", "kl") if row[name] is not None
    )
    head = f"{row['setting']}: rank {row['rank']} shares {row['shares']} growth {row.get('growth')}"
    return f"{head}\n  {attackers}\n  {numbers}"


if __name__ == "__main__":
    main()
