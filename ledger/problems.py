"""What verification can find, one code per kind of damage."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Kinds of findings. The last three are notices: they cost space and nothing else."""

    DAMAGED_DATABASE = "damaged-database"
    ENTRY_ID = "entry-id-mismatch"
    ENTRY_ROW = "entry-row-mismatch"
    BROKEN_PARENT = "broken-parent"
    INVALID_HISTORY = "invalid-history"
    DANGLING_REF = "ref-to-nowhere"
    UNLOGGED_REF = "ref-not-as-logged"
    UNRECORDED_OBJECT = "unrecorded-object"
    MISSING_OBJECT = "missing-object"
    SWAPPED_OBJECT = "swapped-object"
    RENAMED_OBJECT = "renamed-object"
    MISSING_FILE = "missing-file"
    DAMAGED_FILE = "damaged-file"
    EXTRA_FILE = "extra-file"
    ADAPTER_DIGEST = "adapter-digest-mismatch"
    ADAPTER_ENTRY = "adapter-entry-mismatch"
    DAMAGED_STORE = "damaged-store"
    UNSIGNED_ENTRY = "unsigned-entry"
    UNKNOWN_SIGNER = "unknown-signer"
    INVALID_SIGNATURE = "invalid-signature"
    FORGED_SNAPSHOT = "forged-snapshot"
    ROLLED_BACK = "rolled-back"
    ORPHAN_OBJECT = "orphan-object"
    TEMPORARY_FILE = "temporary-file"
    DAMAGED_SNAPSHOT = "damaged-snapshot"


NOTICES = frozenset({Code.ORPHAN_OBJECT, Code.TEMPORARY_FILE, Code.DAMAGED_SNAPSHOT})


@dataclass(frozen=True, order=True)
class Problem:
    """One finding.

    Attributes:
        code: What kind.
        path: Where: ``objects/ab/ab12.../file``, ``entries/<id>``, ``refs/<name>`` or the
            database's URL.
        detail: One sentence for people.
    """

    code: Code
    path: str
    detail: str

    @property
    def damage(self) -> bool:
        """False for what an interrupted writer may leave behind: it harms nothing and gc removes it."""
        return self.code not in NOTICES
