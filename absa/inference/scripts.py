"""Scripts that have no spaces between words."""

from typing import Final

UNSPACED: Final = (  # Thai and Lao, Burmese, Khmer, kana, Han and its extensions, kana of half width
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d"
    "\U00020000-\U0003ffff"
)
"""Letters and marks of these scripts, as a range of a regular expression."""
