"""Behavioural tests: behaviours with their cases, and the suite of the default task.

A sentiment model must show these behaviours, independent of its training data. `invariance` has the behaviours of other
tasks.

The kinds are those of CheckList (Ribeiro et al. 2020, arXiv:2005.04118): minimum functionality (a plain case has one
right answer), invariance (a change without meaning changes no label) and direction (a change with a meaning moves the
score in the right direction). Cases are drawn from templates with many fillers. Equal seeds give equal cases, so two
models can be compared case by case.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from absa.evaluation.gate import BehaviourComparison
from absa.inference.tokenization import ModelInput
from absa.task import Label

Pair = tuple[str, str]
Score = Callable[[Sequence[ModelInput]], npt.NDArray[np.float32]]
Rule = Literal["labels", "same", "up", "down"]

DIRECTION_TOLERANCE: Final = 0.05  # positive minus negative may move so far in the wrong direction

_NEG, _NEU, _POS = Label
_ONLY: Final = {label: frozenset({label}) for label in Label}
_NOT_NEG: Final = frozenset({_NEU, _POS})
_NOT_POS: Final = frozenset({_NEG, _NEU})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a behaviour: pairs to score, and a rule for the answers.

    Values of `rule`: "labels": each pair's label is one of its `expected` labels. "same": all pairs get the label of
    the first pair. "up" and "down", for sentiments: the score (positive minus negative) of the second pair is above or
    below the score of the first.
    """

    pairs: tuple[ModelInput, ...]
    rule: Rule
    expected: tuple[frozenset[Label], ...] = ()

    def fails(self, scores: npt.NDArray[np.float32]) -> bool:
        """Return True if scores (pairs, labels) break the rule."""
        labels = scores.argmax(axis=1)
        if self.rule == "labels":
            return any(label not in allowed for label, allowed in zip(labels, self.expected, strict=True))
        if self.rule == "same":
            return bool((labels != labels[0]).any())
        leaning = scores[:, _POS] - scores[:, _NEG]
        moved = float(leaning[1] - leaning[0])
        return (moved if self.rule == "up" else -moved) < -DIRECTION_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Behaviour: its name, its title in plain words, and its cases."""

    name: str
    title: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, kw_only=True)
class BehaviourResult:
    """Result of a behaviour: True for each failed case, in the order in which cases were drawn."""

    name: str
    title: str
    failed: tuple[bool, ...]

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self.failed)

    @property
    def failures(self) -> int:
        """Number of failed cases."""
        return sum(self.failed)


def run_suite(score: Score, *, cases: int = 100, seed: int = 0) -> tuple[BehaviourResult, ...]:
    """Run `sentiment_suite`, the suite of the default task, on a scorer of (text, aspect) pairs."""
    return run_behaviours(score, sentiment_suite(cases=cases, seed=seed))


def sentiment_suite(*, cases: int = 100, seed: int = 0) -> tuple[Behaviour, ...]:
    """Return the behaviours of the default task.

    Args:
        cases: number of cases of each behaviour.
        seed: equal seeds and counts give equal cases.
    """
    return tuple(
        Behaviour(name=name, title=title, cases=draw_cases(name, cases=cases, seed=seed))
        for name, (title, _) in BEHAVIOURS.items()
    )


def run_behaviours(score: Score, suite: Sequence[Behaviour]) -> tuple[BehaviourResult, ...]:
    """Run all cases of a suite; the scorer is called once, or not at all without cases."""
    pairs = [pair for behaviour in suite for case in behaviour.cases for pair in case.pairs]
    if not pairs:
        return ()
    scores = score(pairs)
    results, start = [], 0
    for behaviour in suite:
        failed = []
        for case in behaviour.cases:
            failed.append(case.fails(scores[start : start + len(case.pairs)]))
            start += len(case.pairs)
        results.append(BehaviourResult(name=behaviour.name, title=behaviour.title, failed=tuple(failed)))
    return tuple(results)


def compare_behaviours(
    candidate: Sequence[BehaviourResult], champion: Sequence[BehaviourResult] | None
) -> tuple[BehaviourComparison, ...]:
    """Compare two models' results on equal cases.

    Raises:
        ValueError: the two models have results of different cases.
    """
    others = {each.name: each for each in champion or ()}
    compared = []
    for each in candidate:
        other = others.get(each.name)
        if other is None:
            compared.append(
                BehaviourComparison(name=each.name, title=each.title, cases=each.cases, failures=each.failures)
            )
            continue
        pairs = list(zip(each.failed, other.failed, strict=True))
        compared.append(
            BehaviourComparison(
                name=each.name,
                title=each.title,
                cases=each.cases,
                failures=each.failures,
                champion_failures=other.failures,
                only_candidate=sum(first and not second for first, second in pairs),
                only_champion=sum(second and not first for first, second in pairs),
            )
        )
    return tuple(compared)


def draw_cases(name: str, *, cases: int, seed: int = 0) -> tuple[Case, ...]:
    """Return different cases of one behaviour.

    Raises:
        KeyError: there is no behaviour of this name.
        ValueError: the templates give fewer cases.
    """
    rng = random.Random(f"{seed}:{name}")
    drawn: dict[Case, None] = {}
    source = BEHAVIOURS[name][1](rng)
    for _ in range(100 * cases):
        if len(drawn) == cases:
            return tuple(drawn)
        drawn[next(source)] = None
    raise ValueError(f"the templates of {name} give fewer than {cases} cases")


_ASPECTS: Final = (
    "audio recorder", "barcode reader", "barometer", "battery gauge", "booking wizard", "cancellation form",
    "clipboard", "corkboard", "coupon page", "diagram tool", "dictation", "drag handle", "e-signature", "equaliser",
    "floor plan viewer", "font list", "fuel tracker", "glossary", "guest book", "handwriting mode", "heat map",
    "hourglass", "invoice template", "itinerary", "kiosk", "label maker", "lesson planner", "lobby screen",
    "meal planner", "metronome", "money transfer", "parking map", "payroll export", "pedometer", "phrase book",
    "protractor", "queue display", "receipt scanner", "recipe scaler", "refund desk", "route planner", "scoreboard",
    "seat map", "sketchpad", "sleep tracker", "star chart", "stopwatch", "subtitle editor", "tax report", "thesaurus",
    "ticket machine", "tide table", "time sheet", "undo button", "voice control", "waiting list", "wardrobe view",
    "weather card", "widget gallery", "workout log",
)  # fmt: skip
_PRAISE: Final = (
    "amazing", "brilliant", "a joy to use", "delightful", "excellent", "fantastic", "first class", "flawless", "great",
    "impressive", "lovely", "outstanding", "perfect", "really good", "superb", "wonderful",
)  # fmt: skip
_BLAME: Final = (
    "a disaster", "a nightmare", "appalling", "awful", "dreadful", "hopeless", "horrible", "infuriating", "pathetic",
    "really bad", "rubbish", "terrible", "unbearable", "useless", "very frustrating", "worthless",
)  # fmt: skip
_MILD_PRAISE: Final = ("good", "great", "helpful", "reliable", "impressive", "pleasant", "useful", "convincing")
_MILD_BLAME: Final = ("bad", "awful", "confusing", "annoying", "disappointing", "slow", "terrible", "frustrating")
_JOINTS: Final = ("but", "however", "yet", "while", "though")
_OPENERS: Final = (
    "", "Honestly, ", "In my opinion ", "After two weeks: ", "To be fair, ", "As a teacher I think ", "For our team, ",
    "Update: ", "Day three and ", "My verdict: ", "We agree that ", "From what I have seen, ",
)  # fmt: skip
_CLOSERS: Final = (
    "",
    " That is all.",
    " Just saying.",
    " My two cents.",
    " Posted from the train.",
    " Thanks for reading.",
)
_PRODUCTS: Final = (
    "Acorn", "Bluefinch", "Calyx", "Dovetail One", "Elmwood", "Fjordly", "Gantry", "Halyard", "Inkwell Pro", "Juniper",
    "Kestrel", "Lumenry", "Marlow", "Nimbuscape", "Orchardly", "Pebblebox",
)  # fmt: skip
_VERBS: Final = ("export", "rename", "share", "reset", "print", "pause", "move", "duplicate", "archive", "rotate")
_PLACES: Final = (
    "in Berlin",
    "on a tablet",
    "over the weekend",
    "for a new colleague",
    "from the office",
    "with two accounts",
)
_HANDLES: Final = ("@mira_k", "@team42", "@jonas.dev", "@citylights", "@quietowl", "@nadia_writes")
_EMOJI: Final = ("📱", "📦", "🗓️", "🔎", "🧾", "🖥️", "📎", "🚲")


def _contrast(rng: random.Random) -> Iterator[Case]:
    while True:
        good, bad = rng.sample(_ASPECTS, 2)
        praise, blame, joint = rng.choice(_PRAISE), rng.choice(_BLAME), rng.choice(_JOINTS)
        first, second = (good, praise), (bad, blame)
        if rng.random() < 0.5:
            first, second = second, first
        text = rng.choice(
            (
                f"{rng.choice(_OPENERS)}the {first[0]} is {first[1]}, {joint} the {second[0]} is {second[1]}.",
                f"the {first[0]} is {first[1]}. The {second[0]} is {second[1]}.",
                f"I find the {first[0]} {first[1]} {joint} the {second[0]} {second[1]}",
            )
        )
        yield Case(pairs=((text, good), (text, bad)), rule="labels", expected=(_ONLY[_POS], _ONLY[_NEG]))


def _vocabulary(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect, positive = rng.choice(_ASPECTS), rng.random() < 0.5
        word = rng.choice(_PRAISE if positive else _BLAME)
        text = rng.choice(
            (f"the {aspect} is {word}", f"{rng.choice(_OPENERS)}the {aspect} is {word}!", f"{aspect}: {word}")
        )
        yield Case(pairs=((text, aspect),), rule="labels", expected=(_ONLY[_POS if positive else _NEG],))


def _negation(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect, positive = rng.choice(_ASPECTS), rng.random() < 0.4
        opener = rng.choice(_OPENERS)
        if positive:
            word = rng.choice(_MILD_BLAME)
            text = rng.choice(
                (f"{opener}the {aspect} is not {word} at all", f"{opener}I never found the {aspect} {word}")
            )
        else:
            word = rng.choice(_MILD_PRAISE)
            text = rng.choice(
                (
                    f"{opener}the {aspect} is not {word}",
                    f"{opener}I would not call the {aspect} {word}",
                    f"{opener}the {aspect} isn't {word} at all",
                    f"{opener}nobody here thinks the {aspect} is {word}",
                )
            )
        yield Case(pairs=((text, aspect),), rule="labels", expected=(_NOT_NEG if positive else _NOT_POS,))


def _temporal(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect, improved = rng.choice(_ASPECTS), rng.random() < 0.5
        before, now = (_MILD_BLAME, _PRAISE) if improved else (_MILD_PRAISE, _BLAME)
        text = rng.choice(
            (
                f"the {aspect} used to be {rng.choice(before)} but now it is {rng.choice(now)}",
                f"{rng.choice(_OPENERS)}the {aspect} was {rng.choice(before)} last year, now it is {rng.choice(now)}",
            )
        )
        yield Case(pairs=((text, aspect),), rule="labels", expected=(_ONLY[_POS if improved else _NEG],))


def _comparison(rng: random.Random) -> Iterator[Case]:
    while True:
        (better, worse), word = rng.sample(_PRODUCTS, 2), rng.choice(("far", "so much", "clearly", "a lot"))
        text = rng.choice(
            (
                f"{rng.choice(_OPENERS)}{better} is {word} better than {worse}",
                f"{worse} is {word} worse than {better}{rng.choice(_CLOSERS)}",
                f"I prefer {better} to {worse}, it is {word} better",
            )
        )
        yield Case(pairs=((text, better), (text, worse)), rule="labels", expected=(_NOT_NEG, _NOT_POS))


def _question(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect = rng.choice(_ASPECTS)
        text = rng.choice(
            (
                f"how do I {rng.choice(_VERBS)} the {aspect} {rng.choice(_PLACES)}?",
                f"Where do I find the {aspect} {rng.choice(_PLACES)}?",
                f"does {rng.choice(_PRODUCTS)} have a {aspect}?",
                f"Can I {rng.choice(_VERBS)} the {aspect} {rng.choice(_PLACES)}?",
            )
        )
        yield Case(pairs=((text, aspect),), rule="labels", expected=(_ONLY[_NEU],))


def _agent(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect, handle = rng.choice(_ASPECTS), rng.choice(_HANDLES)
        text = rng.choice(
            (
                f"{handle} Hi there, could you send us a screenshot of the {aspect} {rng.choice(_PLACES)}?",
                f"Hello {handle}, which version of the {aspect} do you have {rng.choice(_PLACES)}?",
                f"{handle} please open the {aspect} {rng.choice(_PLACES)} and tell us the number that you see",
                f"Hi {handle}! You can {rng.choice(_VERBS)} the {aspect} under Settings.",
            )
        )
        yield Case(pairs=((text, aspect),), rule="labels", expected=(_ONLY[_NEU],))


def _plain(rng: random.Random) -> tuple[str, str]:
    """Return a sentence with a clear opinion on an aspect, and the aspect."""
    aspect = rng.choice(_ASPECTS)
    word = rng.choice(_PRAISE + _BLAME)
    return (
        rng.choice(
            (
                f"we think the {aspect} is {word} in every way",
                f"the {aspect} that came with {rng.choice(_PRODUCTS)} is {word}",
                f"my sister says the {aspect} is {word} {rng.choice(_PLACES)}",
            )
        ),
        aspect,
    )


def _same(change: Callable[[random.Random, str, str], tuple[str, str]]) -> Callable[[random.Random], Iterator[Case]]:
    """Define an invariance: `change` (rng, text, aspect) returns a text and an aspect with the same meaning."""

    def cases(rng: random.Random) -> Iterator[Case]:
        while True:
            text, aspect = _plain(rng)
            yield Case(pairs=((text, aspect), change(rng, text, aspect)), rule="same")

    return cases


def _change_case(rng: random.Random, text: str, aspect: str) -> Pair:
    upper = rng.random() < 0.5
    return (text.upper(), aspect.upper()) if upper else (text.title(), aspect.title())


def _change_punctuation(rng: random.Random, text: str, aspect: str) -> Pair:
    return rng.choice((f"{text}.", f"{text} ...", f"- {text}", f'"{text}"', f"{text};")), aspect


def _add_typo(rng: random.Random, text: str, aspect: str) -> Pair:
    """Swap two letters in a word that is part of neither the aspect nor the opinion."""
    words = text.split()
    carriers = [
        index
        for index, word in enumerate(words)
        if word in ("think", "that", "came", "with", "sister", "says", "every")
    ]
    index = rng.choice(carriers)
    at = rng.randrange(len(words[index]) - 1)
    word = words[index]
    words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words), aspect


def _add_link(rng: random.Random, text: str, aspect: str) -> Pair:
    link = rng.choice((f"https://example.com/{rng.randrange(10_000)}", rng.choice(_HANDLES)))
    return rng.choice((f"{text} {link}", f"{link} {text}")), aspect


def _add_emoji(rng: random.Random, text: str, aspect: str) -> Pair:
    return f"{text} {rng.choice(_EMOJI)}", aspect


def _product_name(rng: random.Random) -> Iterator[Case]:
    while True:
        first, second = rng.sample(_PRODUCTS, 2)
        opener, word, closer = rng.choice(_OPENERS), rng.choice(_PRAISE + _BLAME), rng.choice(_CLOSERS)
        text = f"{opener}{{}} is {word}.{closer}"
        yield Case(pairs=((text.format(first), first), (text.format(second), second)), rule="same")


def _number(rng: random.Random) -> Iterator[Case]:
    while True:
        aspect, word = rng.choice(_ASPECTS), rng.choice(_PRAISE + _BLAME)
        first, second = rng.sample(range(2, 90), 2)
        unit = rng.choice(("weeks", "users", "orders", "visits"))
        text = f"after {{}} {unit} I can say the {aspect} is {word}"
        yield Case(pairs=((text.format(first), aspect), (text.format(second), aspect)), rule="same")


def _added(words: Sequence[str], rule: Rule) -> Callable[[random.Random], Iterator[Case]]:
    """Define a direction: an opinion on the aspect is added to a neutral sentence."""

    def cases(rng: random.Random) -> Iterator[Case]:
        while True:
            aspect = rng.choice(_ASPECTS)
            text = f"I opened the {aspect} {rng.choice(_PLACES)}.{rng.choice(_CLOSERS)}"
            added = rng.choice((f"{text} The {aspect} is {rng.choice(words)}.", f"{text} It is {rng.choice(words)}!"))
            yield Case(pairs=((text, aspect), (added, aspect)), rule=rule)

    return cases


BEHAVIOURS: Final[dict[str, tuple[str, Callable[[random.Random], Iterator[Case]]]]] = {
    "contrast": ("Opposite opinions on two aspects of one sentence, both right", _contrast),
    "vocabulary": ("Plain praise and blame", _vocabulary),
    "negation": ("Negated praise is not positive, negated blame not negative", _negation),
    "temporal": ("What used to be counts less than what is now", _temporal),
    "comparison": ("The better of two is not negative, the worse not positive", _comparison),
    "question": ("A question is neutral", _question),
    "agent": ("An agent's reply is neutral", _agent),
    "case": ("Upper and title case change nothing", _same(_change_case)),
    "punctuation": ("Punctuation changes nothing", _same(_change_punctuation)),
    "typo": ("A typo in a word that carries no opinion changes nothing", _same(_add_typo)),
    "link": ("A URL or @handle changes nothing", _same(_add_link)),
    "emoji": ("An emoji without opinion changes nothing", _same(_add_emoji)),
    "product name": ("Another product name changes nothing", _product_name),
    "number": ("Another number changes nothing", _number),
    "added praise": ("Added praise does not lower the score", _added(_PRAISE, "up")),
    "added complaint": ("An added complaint does not raise the score", _added(_BLAME, "down")),
}
"""Behaviours by name: title in plain words, and the generator of cases."""
