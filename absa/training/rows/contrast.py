"""Contrast sets of the default task: pairs of sentences that differ in a few words and have opposite labels.

There are three kinds of English sentences, which are rare in customers' rows: change over time, comparison and negation
(Gardner et al. 2020, arXiv:2004.02709). They have no template and no filler in common with the behavioural tests. So
these tests still measure if a model generalises.
"""

import random
from collections.abc import Iterator
from typing import Final

from absa.task import Label
from absa.training.rows.tokens import LabelledPair

_NEG, _NEU, _POS = Label

ASPECTS: Final = (
    "sync", "login page", "search bar", "file upload", "push notifications", "dark theme", "onboarding", "checkout",
    "customer portal", "calendar view", "mobile app", "desktop client", "offline mode", "video call", "chat window",
    "map layer", "billing page", "password reset", "photo editor", "spell checker", "keyboard shortcuts", "home screen",
    "data import", "backup", "screen sharing", "translation", "delivery tracking", "loyalty programme", "help centre",
    "support team", "battery life", "installer", "spreadsheet view", "task board", "reminders", "playlist", "camera",
    "news feed", "price list", "returns process",
)  # fmt: skip
PRODUCTS: Final = (
    "Taskhive", "Boardwise", "Plannerly", "Notekeep", "Cartello", "Mailberry", "Syncopia", "Clippo", "Draftwell",
    "Paywise", "Trackly", "Zenboard", "Vaultify", "Sheetmaster", "Roamio", "Parcelo", "the old version",
    "the new version", "the free plan", "the paid plan", "the web version", "last year's model",
)  # fmt: skip
GOOD: Final = (
    "snappy", "polished", "dependable", "effortless", "rock solid", "spot on", "crisp", "speedy", "handy", "accurate",
    "painless", "beautiful", "smooth", "stable", "intuitive", "quick", "clear", "fun", "fast", "easy", "nice",
    "responsive", "trustworthy", "enjoyable", "well designed",
)  # fmt: skip
BAD: Final = (
    "clunky", "buggy", "sluggish", "flaky", "cluttered", "a mess", "broken", "unreliable", "cumbersome", "laggy",
    "painful", "messy", "choppy", "dated", "baffling", "poor", "ugly", "unstable", "tedious", "unusable", "a chore",
    "hard to use", "complicated", "shaky", "irritating",
)  # fmt: skip
STARTS: Final = (
    "", "", "", "For what it's worth, ", "As a paying customer: ", "Quick note: ", "We noticed that ",
    "Speaking for my family, ", "Not sure about others, but ", "It seems ", "I have to say, ", "Well, ",
)  # fmt: skip
ENDS: Final = ("", "", "", " Anyone else?", " Same on my phone.", " Version 4.2 here.", " Just my impression.", " :-/")

CHANGE: Final = (
    "the {aspect} went from {before} to {after}",
    "since the last release the {aspect} has become {after}, before that it was {before}",
    "once {before}, the {aspect} is {after} these days",
    "I remember when the {aspect} was {before}; today it's {after}",
    "the {aspect} started out {before} and turned {after}",
    "{before} at launch, the {aspect} is {after} by now",
    "the {aspect} was {before} until the update, since then it has been {after}",
    "the {aspect} used to feel {before}, nowadays it feels {after}",
    "the {aspect} is {after} now, it used to be {before} when I signed up",
    "in the past the {aspect} was {before}. Not any more: {after}!",
    "a year ago I called the {aspect} {before}, this month it became {after}",
    "after months of a {aspect} that was {before}, it is {after} at last",
    "the {aspect} is no longer {before}, it got {after}",
)  # fmt: skip
"""Sentences that have the label of `after`."""
BETTER: Final = (
    "{better} beats {worse} in every respect",
    "{worse} cannot compete with {better}",
    "{better} is way ahead of {worse}",
    "{worse} lags behind {better}",
    "give me {better} over {worse} any day",
    "{worse} is no match for {better}",
    "{better} works better than {worse} for us",
    "{worse} did worse than {better} in our trial",
    "we moved from {worse} to {better} and would never go back",
    "I switched from {worse} to {better} because {worse} was {bad}",
    "compared with {worse}, {better} feels {good}",
    "next to {better}, {worse} looks {bad}",
    "{better} is more {plain} than {worse}",
    "{worse} is less {plain} than {better}",
    "{worse} isn't nearly as {plain} as {better}",
    "{better} gets right what {worse} gets wrong",
    "between the two, {better} wins and {worse} loses",
    "{worse} looks weak beside {better}",
)  # fmt: skip
"""Sentences in which one product is positive and the other negative."""
PLAIN: Final = ("stable", "intuitive", "responsive", "polished", "enjoyable", "accurate", "dependable", "trustworthy")
NEGATED: Final = (
    ("the {aspect} was always {word}", "the {aspect} was never {word}"),
    ("there is something {word} about the {aspect}", "there is nothing {word} about the {aspect}"),
    ("the {aspect} strikes me as {word}", "the {aspect} does not strike me as {word}"),
    ("the {aspect} is exactly {word}", "the {aspect} isn't exactly {word}"),
    ("everyone would describe the {aspect} as {word}", "hardly anyone would describe the {aspect} as {word}"),
    ("the {aspect} feels {word}", "the {aspect} doesn't feel {word}"),
    ("I can say that the {aspect} is {word}", "I can't say that the {aspect} is {word}"),
    ("the {aspect} is nothing but {word}", "the {aspect} is anything but {word}"),
    ("the {aspect} has been {word} for us", "the {aspect} has not been {word} for us"),
    ("I consider the {aspect} {word}", "I don't consider the {aspect} {word}"),
    ("my colleagues find the {aspect} {word}", "none of my colleagues find the {aspect} {word}"),
    ("the {aspect} turned out {word}", "the {aspect} did not turn out {word}"),
    ("this {aspect} is so {word}", "this {aspect} is not so {word}"),
)  # fmt: skip
"""Pairs of a sentence with the label of its word, and a sentence with the opposite label."""


def contrast_pairs(count: int, seed: int = 0) -> list[LabelledPair]:
    """Return `count` rows of contrast sets, about equally many of each kind; equal seeds give equal rows."""
    chance = random.Random(seed)
    kinds = (_changes(chance), _comparisons(chance), _negations(chance))
    rows: dict[LabelledPair, None] = {}
    while len(rows) < count:
        for kind in kinds:
            rows |= dict.fromkeys(next(kind))
    return list(rows)[:count]


def _changes(chance: random.Random) -> Iterator[tuple[LabelledPair, ...]]:
    while True:
        sentence, aspect = chance.choice(CHANGE), chance.choice(ASPECTS)
        good, bad = chance.choice(GOOD), chance.choice(BAD)
        for before, after, label in ((bad, good, _POS), (good, bad, _NEG)):
            yield (_row(sentence.format(aspect=aspect, before=before, after=after), aspect, label, chance),)


def _comparisons(chance: random.Random) -> Iterator[tuple[LabelledPair, ...]]:
    while True:
        better, worse = chance.sample(PRODUCTS, 2)
        text = chance.choice(BETTER).format(
            better=better,
            worse=worse,
            good=chance.choice(GOOD),
            bad=chance.choice(BAD),
            plain=chance.choice(PLAIN),
        )
        first = _row(text, better, _POS, chance)
        yield first, LabelledPair(first.text, worse, int(_NEG))


def _negations(chance: random.Random) -> Iterator[tuple[LabelledPair, ...]]:
    while True:
        affirmed, negated = chance.choice(NEGATED)
        aspect, good = chance.choice(ASPECTS), chance.random() < 0.5
        word, labels = chance.choice(GOOD if good else BAD), (_POS, _NEG) if good else (_NEG, _POS)
        for sentence, label in zip((affirmed, negated), labels, strict=True):
            yield (_row(sentence.format(aspect=aspect, word=word), aspect, label, chance),)


def _row(text: str, aspect: str, label: Label, chance: random.Random) -> LabelledPair:
    mark = chance.choice(("", ".", "!"))
    return LabelledPair(f"{chance.choice(STARTS)}{text}{mark}{chance.choice(ENDS)}", aspect, int(label))
