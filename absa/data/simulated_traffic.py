"""Customers, simulated: an endless seeded stream of requests with drift and delayed feedback that are known exactly.

Texts come from a pool of hand-written (or a user's held-back) rows. A request asks about one row, as it was written
the first time, later with a mild variation, or with a second row of the same segment joined to it: the label of the
aspect that is asked about stays known, because the aspect is in its own part only. No text is served twice, and
none whose near-duplicate key the caller has named (what was ingested) is served at all.

Without drift the stream is stationary: rows are drawn uniformly from the pool, and the share of joined texts is the
same, from the first request to the last.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

import polars as pl

from absa.data.normalise import hold_back_point, side_key
from absa.inference.aspect_span import find_aspect, has_aspect, normalise

Swaps = tuple[tuple[str, str], ...]

NEW_VOCABULARY: Final[Swaps] = (
    ("love", "stan"),
    ("great", "fire"),
    ("good", "solid af"),
    ("nice", "chef's kiss"),
    ("perfect", "goated"),
    ("brilliant", "bussin"),
    ("lovely", "immaculate"),
    ("easy", "no-brainer"),
    ("fast", "zippy"),
    ("quick", "zippy"),
    ("works", "slaps"),
    ("bad", "mid"),
    ("terrible", "trash tier"),
    ("awful", "cursed"),
    ("broken", "borked"),
    ("slow", "laggy"),
    ("useless", "a nothingburger"),
    ("hate", "cannot with"),
    ("crashes", "rage quits"),
    ("wrong", "sus"),
    ("never", "literally never ever"),
    ("very", "hella"),
    ("really", "lowkey"),
    ("please", "pls"),
    ("customer", "user"),
)
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
_EMOJI: Final = ("📱", "🗒️", "👀", "🤷", "✍️", "📌", "💬", "🖥️")  # none that takes a side
_KEYBOARD: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KEY_NEIGHBOURS: Final = {a: b for row in _KEYBOARD for a, b in zip(row, row[1:] + row[-2], strict=True)}
_ATTEMPTS_A_LEVEL: Final = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRequest:
    """Request of one customer and the feedback on its answer.

    `feedback_label` is None where the customer gives no feedback, and may be wrong; `feedback_delay_s` counts from the
    answer; `feedback_copies` is how often it is sent (2 or more: duplicates). `number` counts from 0. `drifted` names
    which parts of the drift took hold of this request.
    """

    number: int
    text: str
    aspect: str
    true_label: int
    unit_id: str
    segment: str | None
    feedback_label: int | None
    feedback_delay_s: float
    feedback_copies: int = 1
    drifted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Drift: changes, their size at full strength, their start. Shares are 0 to 1; parts combine; none by default.

    Args:
        new_area_share: share of the requests that come from the new area's rows.
        vocabulary_share: share of the requests in which the swaps of `vocabulary` are made, outside the aspect.
        class_shares: the mix of negative, neutral and positive that true labels move to (before a concept change).
        concept_share: share of the aspects whose negative and positive swap places, chosen by hash, the same for ever.
        concept_aspects: these aspects as well, whatever the share.
        noise_share: share of the requests that are typed carelessly: four typos a hundred characters, case lost.
        starts_at: the request number that the drift begins at.
        ramp: over so many requests it grows from nothing to full strength.
    """

    new_area_share: float = 0.0
    vocabulary_share: float = 0.0
    vocabulary: Swaps = NEW_VOCABULARY
    class_shares: tuple[float, float, float] | None = None
    concept_share: float = 0.0
    concept_aspects: tuple[str, ...] = ()
    noise_share: float = 0.0
    starts_at: int = 0
    ramp: int = 0

    def __post_init__(self) -> None:
        for name in ("new_area_share", "vocabulary_share", "concept_share", "noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.class_shares is not None and (min(self.class_shares) < 0 or abs(sum(self.class_shares) - 1) > 1e-9):
            raise ValueError(f"class_shares are three shares that sum to 1, got {self.class_shares}")
        if self.starts_at < 0 or self.ramp < 0:
            raise ValueError("starts_at and ramp count requests from 0")

    def strength(self, number: int) -> float:
        """Return the active share of the drift at a request, 0 to 1."""
        if number < self.starts_at:
            return 0.0
        return 1.0 if self.ramp == 0 else min(1.0, (number - self.starts_at) / self.ramp)

    def flips(self, aspect: str) -> bool:
        """Return True if the active concept change swaps negative and positive for an aspect."""
        known = normalise(aspect)
        if known in {normalise(named) for named in self.concept_aspects}:
            return True
        return hold_back_point(f"concept {known}") < self.concept_share


KINDS: Final = ("new-area", "vocabulary", "class-shift", "concept", "noise")


def drift_of(kind: str, strength: float = 0.5, *, starts_at: int = 0, ramp: int = 0) -> Drift | None:
    """Return a drift by its name: one of `KINDS`, several joined by "+", or "none".

    Raises:
        ValueError: another name.
    """
    if kind == "none":
        return None
    drift = Drift(starts_at=starts_at, ramp=ramp)
    for part in kind.split("+"):
        match part:
            case "new-area":
                drift = replace(drift, new_area_share=strength)
            case "vocabulary":
                drift = replace(drift, vocabulary_share=strength)
            case "class-shift":
                rest = (1 - strength) / 3
                drift = replace(drift, class_shares=(rest + strength, rest, 1 - 2 * rest - strength))
            case "concept":
                drift = replace(drift, concept_share=strength)
            case "noise":
                drift = replace(drift, noise_share=strength)
            case _:
                raise ValueError(f"a drift is none or one of {', '.join(KINDS)}, joined by +; got {part!r}")
    return drift


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackHabits:
    """Feedback of customers. Delays are exponential with `delay_mean_s`; shares are 0 to 1."""

    probability: float = 0.5
    delay_mean_s: float = 5.0
    error_rate: float = 0.02
    duplicate_rate: float = 0.03


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A labelled row of a pool."""

    text: str
    aspect: str
    label: int
    segment: str | None = None


def labelled_rows(frame: pl.DataFrame) -> list[LabelledRow]:
    """Return the labelled rows of a frame with text, aspect, label and segment."""
    columns = frame.drop_nulls("label").select("text", "aspect", "label", "segment")
    return [LabelledRow(text, aspect, int(label), segment) for text, aspect, label, segment in columns.iter_rows()]


def hold_back(frame: pl.DataFrame, share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those to ingest and those to hold back for traffic, by text: near-duplicates stay together.

    The choice is a hash of the text, independent of the sides of a snapshot: equal data, equal split.
    """
    held = pl.Series([hold_back_point(text) < share for text in frame["text"].to_list()], dtype=pl.Boolean)
    return frame.filter(~held), frame.filter(held)


def known_texts(frames: Sequence[pl.DataFrame]) -> frozenset[int]:
    """Return the side keys of every text in some frames, for a stream to avoid."""
    return frozenset(side_key(text) for frame in frames for text in frame["text"].unique().to_list())


@dataclass(slots=True)
class _Pool:
    """Rows to draw from: each as written once, in shuffled order, before any varied one repeats it."""

    rows: Sequence[LabelledRow]
    by_segment: dict[str | None, list[LabelledRow]] = field(default_factory=dict)
    fresh: dict[int, list[LabelledRow]] = field(
        default_factory=dict
    )  # a label's rows that were not drawn in this round
    by_label: dict[int, list[LabelledRow]] = field(default_factory=dict)
    served: set[LabelledRow] = field(default_factory=set)

    def __post_init__(self) -> None:
        for row in self.rows:
            self.by_segment.setdefault(row.segment, []).append(row)
            self.by_label.setdefault(row.label, []).append(row)

    @property
    def label_shares(self) -> tuple[float, float, float]:
        """The natural mix of labels."""
        counts = [len(self.by_label.get(label, ())) for label in range(3)]
        return counts[0] / len(self.rows), counts[1] / len(self.rows), counts[2] / len(self.rows)

    def draw(self, random_: random.Random, shares: Sequence[float]) -> LabelledRow:
        """Return a row of a label drawn by the shares, each of the label's rows before any comes again."""
        weights = [share if label in self.by_label else 0.0 for label, share in enumerate(shares)]
        if not sum(weights):
            weights = list(self.label_shares)
        label = random_.choices(range(3), weights)[0]
        waiting = self.fresh.get(label)
        if not waiting:
            waiting = self.fresh[label] = random_.sample(self.by_label[label], len(self.by_label[label]))
        return waiting.pop()


class PoolTraffic:
    """The one traffic source: a pool, a new area's pool, accounts, drift and feedback.

    Args:
        pool: rows of the areas that are known.
        new_area: rows that `Drift.new_area_share` draws from.
        seed: equal seed, pools and calls give an equal stream.
        drift: active from the first request; `switch` changes it later.
        feedback: how customers tell what was right.
        avoid: side keys of texts that must not be served.
        units: how many accounts; activity follows Zipf's law, and four in five requests of an account are about the
            segment that is its own.
        composed_share: share of the requests that join two rows.

    Raises:
        ValueError: the pool is empty, or drift asks for a new area where there is none.
    """

    def __init__(
        self,
        pool: Sequence[LabelledRow],
        new_area: Sequence[LabelledRow] = (),
        *,
        seed: int = 0,
        drift: Drift | None = None,
        feedback: FeedbackHabits | None = None,
        avoid: Collection[int] = frozenset(),
        units: int = 300,
        composed_share: float = 0.3,
    ) -> None:
        if not pool:
            raise ValueError("the pool of a traffic source holds no rows")
        self._pool, self._new_area = _Pool(pool), _Pool(new_area)
        self._drift: Drift | None = None
        self._drift_from = 0
        self._feedback = feedback or FeedbackHabits()
        self._avoid = avoid
        self._composed_share = composed_share
        self._served: set[int] = set()
        self._number = 0
        # separate generators: how customers tell leaves what they ask as it was
        self._rows, self._typing, self._accounts, self._told, self._drifting = (
            random.Random(f"{seed}/{name}") for name in ("rows", "typing", "accounts", "feedback", "drift")
        )
        segments = sorted({row.segment or "" for row in (*pool, *new_area)})
        self._units = [f"acct-{n:04d}" for n in range(units)]
        self._activity: Mapping[str, tuple[list[str], list[float]]] = _activity(
            self._units, segments, random.Random(f"{seed}/units")
        )
        if drift is not None:
            self.switch(drift)

    def __iter__(self) -> "PoolTraffic":
        return self

    def switch(self, drift: Drift | None) -> None:
        """Activate a drift from the next request on: its starts_at counts from there.

        Raises:
            ValueError: it asks for a new area and the source has none.
        """
        if drift is not None and drift.new_area_share > 0 and not self._new_area.rows:
            raise ValueError("the drift asks for a new area, and this source has no rows of one")
        self._drift, self._drift_from = drift, self._number

    def __next__(self) -> SimulatedRequest:
        number = self._number
        strength = self._drift.strength(number - self._drift_from) if self._drift else 0.0
        drift = self._drift or Drift()
        happened: list[str] = []
        dice = [self._drifting.random() for _ in range(3)]
        pool = self._pool
        if dice[0] < drift.new_area_share * strength:
            pool = self._new_area
            happened.append("new_area")
        shares: Sequence[float] = pool.label_shares
        if drift.class_shares is not None and strength:
            goal = drift.class_shares
            shares = [(1 - strength) * a + strength * b for a, b in zip(shares, goal, strict=True)]
            happened.append("class_shares")
        swaps = drift.vocabulary if dice[1] < drift.vocabulary_share * strength else ()
        noisy = dice[2] < drift.noise_share * strength
        row, text, swapped = self._fresh_text(pool, shares, swaps, noisy)
        label = row.label
        # a concept change ramps by aspect: the share of the aspects that have changed grows
        if strength and replace(drift, concept_share=drift.concept_share * strength).flips(row.aspect) and label != 1:
            label = 2 - label
            happened.append("concept")
        happened += ["vocabulary"] * swapped + ["noise"] * noisy
        self._number += 1
        units, weights = self._activity[row.segment or ""]
        told = self._feedback
        chances = [self._told.random() for _ in range(4)]
        said: int | None = None
        if chances[0] < told.probability:
            said = label if chances[1] >= told.error_rate else (label + (1 if chances[3] < 0.5 else 2)) % 3
        return SimulatedRequest(
            number=number,
            text=text,
            aspect=row.aspect,
            true_label=label,
            unit_id=self._accounts.choices(units, cum_weights=weights)[0],
            segment=row.segment,
            feedback_label=said,
            feedback_delay_s=self._told.expovariate(1 / told.delay_mean_s) if told.delay_mean_s else 0.0,
            feedback_copies=2 if chances[2] < told.duplicate_rate else 1,
            drifted=tuple(happened),
        )

    def _fresh_text(
        self, pool: _Pool, shares: Sequence[float], swaps: Swaps, noisy: bool
    ) -> tuple[LabelledRow, str, bool]:
        """Return a row, an unseen text about its aspect, and True if a swap was made."""
        joined = self._typing.random() < self._composed_share
        row = pool.draw(self._rows, shares)
        attempt = 0
        while True:
            level = attempt // _ATTEMPTS_A_LEVEL  # the more was served already, the more is joined and varied
            text = row.text
            for _ in range(int(joined) + level):
                text = self._joined(pool, row, text)
            if attempt or (row in pool.served and not joined):
                for _ in range(1 + level):
                    text = self._varied(text, row.aspect)
            before = text
            text = _swapped(text, row.aspect, swaps)
            swapped = text != before
            if noisy:
                text = _noisy(text, row.aspect, self._drifting)
            key = side_key(text)
            if key not in self._served and key not in self._avoid and has_aspect(text, row.aspect):
                self._served.add(key)
                pool.served.add(row)
                return row, text, swapped
            attempt += 1

    def _joined(self, pool: _Pool, row: LabelledRow, text: str) -> str:
        """Another row of the same segment joined on, one that does not speak of the aspect."""
        others = pool.by_segment[row.segment]
        for _ in range(10):
            other = self._typing.choice(others).text
            if not has_aspect(other, row.aspect) and other not in text:
                first, second = (text, other) if self._typing.random() < 0.5 else (other, text)
                if first[-1].isalnum():
                    first += "."
                return first + self._typing.choice(_CONNECTORS + _CONNECTORS_MORE) + second
        return text

    def _varied(self, text: str, aspect: str) -> str:
        """One mild change that leaves the aspect and what is said of it alone."""
        pick = self._typing.random()
        if pick < 0.4:
            return _typo(text, aspect, self._typing)
        if pick < 0.6:
            return f"{self._typing.choice(_GREETINGS)} {text}"
        if pick < 0.8:
            return f"{text} {self._typing.choice(_CLOSINGS)}"
        if pick < 0.9:
            return f"{text} {self._typing.choice(_EMOJI)}"
        return _typo(text.lower(), aspect, self._typing)


def _activity(
    units: Sequence[str], segments: Sequence[str], random_: random.Random
) -> dict[str, tuple[list[str], list[float]]]:
    """Return a segment's accounts with cumulated weights: Zipf's law, and four fifths from accounts whose own it is."""
    own = {unit: random_.choice(segments) for unit in units}
    zipf = {unit: 1 / (rank + 1) for rank, unit in enumerate(random_.sample(units, len(units)))}
    table = {}
    for segment in segments:
        inside = sum(zipf[unit] for unit in units if own[unit] == segment) or 1.0
        outside = sum(zipf[unit] for unit in units if own[unit] != segment) or 1.0
        weights = [0.8 * zipf[unit] / inside if own[unit] == segment else 0.2 * zipf[unit] / outside for unit in units]
        table[segment] = (list(units), list(accumulate(weights)))
    return table


def _outside(text: str, aspect: str) -> tuple[str, str, str]:
    """Return the text before the aspect, the aspect as the text has it, and the text after it."""
    span = find_aspect(text, aspect)
    if span is None:
        return "", text, ""  # nothing tells the aspect from the rest: leave the whole alone
    return text[: span.start], text[span.start : span.end], text[span.end :]


def _typo(text: str, aspect: str, random_: random.Random) -> str:
    """One slip of the fingers in a word of five letters or more outside the aspect."""
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


def _noisy(text: str, aspect: str, random_: random.Random) -> str:
    """Typed carelessly: four typos a hundred characters, and case lost in every other text."""
    for _ in range(max(1, round(len(text) * 0.04))):
        text = _typo(text, aspect, random_)
    return text.lower() if random_.random() < 0.5 else text


def _swapped(text: str, aspect: str, swaps: Swaps) -> str:
    """Return the text with every swap made, in whole words outside the aspect."""
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
