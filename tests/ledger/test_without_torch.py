"""What is asked of a ledger about its entries waits for no torch: composition is imported when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from ledger.ledger import Ledger
from seqedit.adapters.base import BaseModel

place = Path(sys.argv[1])
with Ledger.create(place, BaseModel("tiny", "f" * 64), author="me") as ledger:
    root = ledger.head()
with Ledger.open(place) as ledger:
    assert [entry.id for entry in ledger.log()] == [root]
    assert ledger.log_rows()[0]["id"] == root
    assert ledger.branches() == {"main": root}
    ledger.start_branch("other")
    ledger.switch("other")
    assert ledger.blame("nobody") == []
    assert ledger.diff("HEAD", "main").facts == ()
    assert ledger.scores() == {}
    assert ledger.moves()
    print(sorted(name for name in sys.modules if name in ("torch", "transformers", "safetensors.torch")))
"""


def test_a_ledger_is_made_opened_and_asked_without_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "ledger")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
