"""Wording of simulated texts: joins, mild variations, typos and swapped words that do not change the aspect."""

import random
from collections.abc import Sequence
from typing import Final

from absa.data.traffic.known_drift import Swaps
from absa.data.traffic.row_pool import LabelledRow
from absa.inference.aspect_span import find_aspect, has_aspect

_CONNECTORS: Final = (" Also, ", " Besides, ", " And then: ", " Apart from that, ", " By the way, ", " Oh, and ", "\n")
_CONNECTORS_MORE: Final = (" Second thing: ", " On another note, ", " PS: ", " One more: ", " Separately, ", " ")
_GREETINGS: Final = (
    "Hi,",
    "Hello there,",
    "hey,",
    "Hi team,",
    "Good morning,",
    "hey all,",
    "Dear team,",
    "hello!",
    "Quick note:",
    "Feedback:",
    "fyi,",
    "Hi folks,",
    "so,",
    "Good evening,",
    "Just writing to say:",
)
_CLOSINGS: Final = ("Thanks", "thx", "Cheers", "Best, M.", "Kind regards", "tia", "Greetings from Utrecht", "- Sam")
_EMOJI: Final = ("📱", "🗒️", "👀", "🤷", "✍️", "📌", "💬", "🖥️")  # none expresses an opinion
_KEYBOARD: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KEY_NEIGHBOURS: Final = {a: b for row in _KEYBOARD for a, b in zip(row, row[1:] + row[-2], strict=True)}


def joined_text(text: str, aspect: str, others: Sequence[LabelledRow], random_: random.Random) -> str:
    """Return the text joined with the text of another row that does not name the aspect."""
    for _ in range(10):
        other = random_.choice(others).text
        if not has_aspect(other, aspect) and other not in text:
            first, second = (text, other) if random_.random() < 0.5 else (other, text)
            if first[-1].isalnum():
                first += "."
            return first + random_.choice(_CONNECTORS + _CONNECTORS_MORE) + second
    return text


def varied_text(text: str, aspect: str | None, random_: random.Random) -> str:
    """Return the text with one mild change that affects neither the aspect nor the opinion on it."""
    pick = random_.random()
    if pick < 0.4:
        return _typo(text, aspect, random_)
    if pick < 0.6:
        return f"{random_.choice(_GREETINGS)} {text}"
    if pick < 0.8:
        return f"{text} {random_.choice(_CLOSINGS)}"
    if pick < 0.9:
        return f"{text} {random_.choice(_EMOJI)}"
    return _typo(text.lower(), aspect, random_)


def _outside(text: str, aspect: str | None) -> tuple[str, str, str]:
    """Return the text before the aspect, the aspect as written in the text, and the text after it."""
    if aspect is None:
        return text, "", ""
    span = find_aspect(text, aspect)
    if span is None:
        return "", text, ""  # the place of the aspect is unknown: change nothing
    return text[: span.start], text[span.start : span.end], text[span.end :]


def _typo(text: str, aspect: str | None, random_: random.Random) -> str:
    """Return the text with one typo in a word of five letters or more outside the aspect."""
    before, kept, after = _outside(text, aspect)
    part = before if random_.random() < len(before) / max(1, len(before) + len(after)) else after
    words = part.split(" ")
    long = [n for n, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    n = random_.choice(long)
    word = words[n]
    at = random_.randrange(1, len(word) - 1)
    slip = random_.random()
    if slip < 0.4:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif slip < 0.6:
        word = word[:at] + word[at + 1 :]
    elif slip < 0.8:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + _KEY_NEIGHBOURS.get(word[at], word[at]) + word[at + 1 :]
    words[n] = word
    changed = " ".join(words)
    return changed + kept + after if part is before else before + kept + changed


def noisy_text(text: str, aspect: str | None, random_: random.Random) -> str:
    """Return a carelessly typed text: four typos per hundred characters, and lower case in every other text."""
    for _ in range(max(1, round(len(text) * 0.04))):
        text = _typo(text, aspect, random_)
    return text.lower() if random_.random() < 0.5 else text


def swapped_text(text: str, aspect: str | None, swaps: Swaps) -> str:
    """Return the text with all swaps, which replace whole words outside the aspect."""
    if not swaps:
        return text
    new = dict(swaps)
    before, kept, after = _outside(text, aspect)

    def swap(part: str) -> str:
        words = part.split(" ")
        for n, word in enumerate(words):
            bare = word.strip(".,!?;:()\"'").lower()
            if bare in new:
                words[n] = word.lower().replace(bare, new[bare], 1)
        return " ".join(words)

    return swap(before) + kept + swap(after)
