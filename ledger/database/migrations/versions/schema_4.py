"""Facts say where they come from: their date, source and note. Those of older ledgers have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty."""
    for name in ("date", "source", "note"):
        op.add_column("requests", sa.Column(name, sa.Text(), nullable=True))
