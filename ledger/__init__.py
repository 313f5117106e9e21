"""History of edits: entries, branches, a store of adapters, and states composed from them."""

from ledger.errors import BranchMoved, Conflict
from ledger.history.entries import Entry
from ledger.ledger import Ledger
from ledger.problems import Code, Problem
from seqedit.adapters.composition import Composition

__all__ = ["BranchMoved", "Code", "Composition", "Conflict", "Entry", "Ledger", "Problem"]
