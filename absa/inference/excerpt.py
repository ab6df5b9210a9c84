"""Excerpt of a text that is too long for the model: the tokens around the aspect.

The excerpt is centred on the words of the aspect's first occurrence; an occurrence of whole words is preferred to one
inside a word. The excerpt is shifted to stay within the text, so it always has as many tokens as there is room for. If
the words of the aspect alone are too long, they are kept from their first token on. The excerpt is the start of the
text if the aspect is not in the text, and for a topic or no phrase.
"""

import string
import unicodedata
from typing import Final

from absa.inference.aspect_span import find_aspect

CUT_RULE: Final = "around-aspect-1"  # name of the rule in the keys of stored token ids: a changed rule needs a new one

_ASCII_BREAKS: Final = frozenset(string.punctuation + " \t\n\r")
_IDEOGRAPHS: Final = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B920, 0x2CEAF),  # the same range as in the tokenizers library
    (0x2F800, 0x2FA1F),
)


def first_kept(before: int, named: int, length: int, room: int) -> int:
    """Return the number of the first token to keep, 0 to length - room.

    Args:
        before: number of tokens before the words of the aspect.
        named: number of tokens of these words.
        length: number of tokens of the text.
        room: number of tokens to keep, at least 1 and less than `length`.
    """
    return max(0, min(before - max(0, room - named) // 2, length - room))


def up_to_aspect(text: str, aspect: str) -> tuple[str, str]:
    """Return the text before the words of the aspect, and these words; both are empty if the text lacks the aspect.

    The words are extended to places where every tokenizer splits, so that the parts have the same tokens as the whole.
    """
    span = find_aspect(text, aspect, whole_words=True)
    if span is None:
        return "", ""
    start, end = span
    while 0 < start < len(text) and not _splits(text, start):
        start -= 1
    while end < len(text) and not _splits(text, end):
        end += 1
    return text[:start], text[start:end]


def _splits(text: str, at: int) -> bool:
    return _breaks(text[at - 1]) or _breaks(text[at])


def _breaks(character: str) -> bool:
    """Return True for a character that is its own token or no token: white space, punctuation, ideographs."""
    if character.isascii():
        return character in _ASCII_BREAKS
    if unicodedata.category(character)[0] in "PZ":
        return True
    return any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
