"""``python -m seqedit``: the same as the command ``seqedit``."""

from seqedit.cli import main

main()
