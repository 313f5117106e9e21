"""Scripts that write no spaces between words, told by the code points of their characters."""

from __future__ import annotations

import bisect

_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # CJK and Kangxi radicals
    (0x2FF0, 0x312F),  # CJK punctuation, Hiragana, Katakana, Bopomofo
    (0x3190, 0x9FFF),  # Kanbun, Bopomofo and Katakana extensions, CJK marks, CJK ideographs
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar extension B
    (0xAA60, 0xAADF),  # Myanmar extension A, Tai Viet
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFE10, 0xFE1F),  # vertical forms
    (0xFE30, 0xFE4F),  # CJK compatibility forms
    (0xFF00, 0xFF9F),  # full-width forms, half-width Katakana (Hangul's half-width letters follow)
    (0xFFE0, 0xFFE6),  # full-width signs
    (0x1AFF0, 0x1B16F),  # Kana extensions
    (0x20000, 0x3FFFF),  # CJK ideographs beyond the basic plane
)
"""First and last code point. Hangul is not among them: Korean puts spaces between words."""
_STARTS = [first for first, _ in _BLOCKS]


def unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces between words, or of its punctuation."""
    code = ord(character)
    if code < _STARTS[0]:
        return False
    return code <= _BLOCKS[bisect.bisect_right(_STARTS, code) - 1][1]
