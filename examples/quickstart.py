"""The whole job on the shipped demo model: edit, measure, take back, edit again, save.

    python examples/quickstart.py [FOLDER]

It needs no network and about half a minute; the folder (quickstart/ by default) must not exist.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from seqedit import Adapter, Session
from seqedit.demo.location import demo_file


def main(folder: Path) -> None:
    """Go through the steps in a new folder."""
    folder.mkdir(parents=True)
    # Four facts of the demo world, in CounterFact's layout: with paraphrases, neighbours and the true answer.
    facts = folder / "march.json"
    facts.write_text(json.dumps(json.loads(demo_file("counterfact.json").read_text())[::90][:4]))

    with Session.from_pretrained("demo-llama", ledger=folder / "ledger") as session:
        entry = session.edit(facts, method="memit", preset="demo-llama", message="March")
        print(f"edited: {entry.id[:12]}, {len(entry.requests)} facts")
        step = session.evaluate(records=facts).step
        print("scores:", ", ".join(f"{name} {step[name]:.1f}" for name in ("ES", "PS", "NS", "S")))

        session.revert(entry)  # bit for bit the unedited weights again
        print("reverted; in force:", len(session.ledger.active()), "entries")

        session.edit(facts, method="emmet", preset="demo-llama", message="March, by EMMET")
        for line in session.log():
            print(f"  {line.id[:12]} {line.operation:<7} {line.message}")
        session.export(folder / "adapter", format="peft")  # what stock PEFT loads
    print("adapter of", len(Adapter.from_pretrained(folder / "adapter").requests), "facts:", folder / "adapter")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart"))
