"""Behaviours of any task: a change of a test row that does not change its meaning must not change its label.

These are the invariances of CheckList (Ribeiro et al. 2020, arXiv:2005.04118). They use rows of the test split instead
of templates, so they work in any language. The default task has its own suite with these changes on its templates.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

from absa.evaluation.behaviour import Behaviour, Case, sentiment_suite
from absa.inference.aspect_span import find_aspect, has_aspect
from absa.inference.tokenization import ModelInput
from absa.task import ABSA, TaskSpec

_NAMES: Final = ("Anna", "Kenji", "Fatima", "José", "Olu", "Mei", "Piotr", "Aylin")
_HANDLES: Final = ("@mira_k", "@team42", "@jonas.dev", "@quietowl")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_NUMBER: Final = re.compile(r"\d+")
_MARKS: Final = ("{}.", "{} ...", "- {}", '"{}"', "{};")

Rewording = Callable[[random.Random, str, "Sequence[tuple[int, int]]"], tuple[str, str] | None]
"""Function (random generator, text, spans that must not change) that returns two texts of equal meaning, or None."""


def behaviours_of(task: TaskSpec, pairs: Sequence[ModelInput], *, cases: int, seed: int = 0) -> tuple[Behaviour, ...]:
    """Return the behaviours on which a model of the task is tested.

    Args:
        task: the default task, also with appended labels, has the suite of sentiment.
        pairs: test rows from which cases are made. A behaviour that applies to no row is left out.
        cases: largest number of cases of each behaviour.
        seed: equal seeds and rows give equal cases.
    """
    if task.extends(ABSA):
        return sentiment_suite(cases=cases, seed=seed)
    made = ((name, title, _cases(name, change, task, pairs, cases, seed)) for name, (title, change) in _CHANGES.items())
    return tuple(Behaviour(name=name, title=title, cases=drawn) for name, title, drawn in made if drawn)


def _cases(
    name: str, change: Rewording, task: TaskSpec, pairs: Sequence[ModelInput], most: int, seed: int
) -> tuple[Case, ...]:
    rng = random.Random(f"{seed}:{name}")
    drawn: dict[Case, None] = {}
    for text, phrase in rng.sample(pairs, len(pairs)):
        if len(drawn) == most:
            break
        span = find_aspect(text, phrase) if task.phrase_in_text and phrase else None
        texts = change(rng, text, [] if span is None else [(span.start, span.end)])
        kept = texts is not None and all(span is None or has_aspect(each, phrase or "") for each in texts)
        if texts is not None and kept:
            drawn[Case(pairs=((texts[0], phrase), (texts[1], phrase)), rule="same")] = None
    return tuple(drawn)


def _differs(before: str, after: str) -> tuple[str, str] | None:
    return (before, after) if before != after else None


def _change_case(rng: random.Random, text: str, _: Sequence[tuple[int, int]]) -> tuple[str, str] | None:
    others = [other for other in (text.upper(), text.lower()) if other != text]
    return (text, rng.choice(others)) if others else None


def _change_punctuation(rng: random.Random, text: str, _: Sequence[tuple[int, int]]) -> tuple[str, str]:
    return text, rng.choice(_MARKS).format(text)


def _add_typo(rng: random.Random, text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, str] | None:
    words = [word for word in _WORD.finditer(text) if _outside(word, spans)]
    if not words:
        return None
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    return _differs(text, text[:at] + text[at + 1] + text[at] + text[at + 2 :])


def _add_link(rng: random.Random, text: str, _: Sequence[tuple[int, int]]) -> tuple[str, str]:
    link = rng.choice((f"https://example.com/{rng.randrange(10_000)}", rng.choice(_HANDLES)))
    return text, rng.choice((f"{text} {link}", f"{link} {text}"))


def _change_name(rng: random.Random, text: str, _: Sequence[tuple[int, int]]) -> tuple[str, str]:
    first, second = rng.sample(_NAMES, 2)
    return f"{first}: {text}", f"{second}: {text}"


def _change_number(rng: random.Random, text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, str] | None:
    def other(number: re.Match[str]) -> str:
        if not _outside(number, spans):
            return number[0]
        return "".join(str(rng.randrange(1, 10)) for _ in number[0])

    return _differs(text, _NUMBER.sub(other, text))


def _outside(found: re.Match[str], spans: Sequence[tuple[int, int]]) -> bool:
    return all(found.end() <= start or found.start() >= end for start, end in spans)


_CHANGES: Final[dict[str, tuple[str, Rewording]]] = {
    "case": ("Upper and lower case change nothing", _change_case),
    "punctuation": ("Punctuation changes nothing", _change_punctuation),
    "typo": ("A typo in one word changes nothing", _add_typo),
    "link": ("A URL or @handle changes nothing", _add_link),
    "name": ("Another name in front changes nothing", _change_name),
    "number": ("Another number changes nothing", _change_number),
}
