from __future__ import annotations

from ledger.upkeep import verify_objects as objects
from ledger.upkeep.gc import collect
from tests.ledger.helpers import build_adapter


def test_an_object_that_is_collected_while_verify_runs_is_no_damage(ledger, monkeypatch):
    ledger.append(build_adapter(1))
    ledger.start_branch("aside")
    ledger.append(build_adapter(2), branch="aside")
    ledger.delete_branch("aside")
    original = objects.verify_objects

    def racing(*arguments, **options):
        collect(ledger.database, ledger.store, keep_days=None, grace=0)
        return original(*arguments, **options)

    monkeypatch.setattr(objects, "verify_objects", racing)
    assert [problem for problem in ledger.verify() if problem.damage] == []
