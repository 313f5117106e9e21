"""Where the subject stands in a published question, which does not always hold it once."""

from __future__ import annotations

import re
from typing import Any

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text, short


def subject_slot(prompt: Any, subject: Any, field: str) -> str:
    """A filled-in prompt as a template: the subject's last occurrence gives way to ``{}``.

    ROME reads the key at the subject's last token, so of several occurrences the last one has seen the others.

    Raises:
        RequestError: the subject does not occur, or a field is empty.
    """
    for name, value in ((field, prompt), ("subject", subject)):
        if not check_text(value, name).strip():
            raise RequestError(f"field '{name}' is empty")
    if "{}" in prompt:
        return str(prompt)
    found = list(re.finditer(re.escape(subject), prompt))
    if not found:
        raise RequestError(
            f"field '{field}': the subject {short(subject)} does not occur in {short(prompt, 200)}; write the prompt "
            "with {} in its place"
        )
    start, end = found[-1].span()
    return str(prompt[:start] + "{}" + prompt[end:])
