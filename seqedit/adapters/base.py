"""Which model an adapter, an entry, a ledger belongs to; knows no tensor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BaseModel:
    """The unedited model that an adapter belongs to.

    Attributes:
        name: Hub id or directory it was loaded from.
        fingerprint: Digest of its weights (`seqedit.models.fingerprint.fingerprint`).
    """

    name: str
    fingerprint: str
