"""Which rows are learned from where not all fit into the time: newer ones first, informative ones first, noise out.

A pass looks at the data a stretch at a time, `pool` candidates for every row that it will learn from, and picks among
them. So whatever the size of the data, a pass ends about when the deadline does, and no row is looked at twice.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from absa.modeling.architecture import PairClassifier
from absa.training.rows.distill import score
from absa.training.rows.tokens import Index, TokenRows

CHUNK_ROWS: Final = 16_384  # rows are picked, composed and cut into batches within chunks of so many, or of more
MOST_CANDIDATES: Final = 8  # for a row; more hardly makes the choice better and costs reading
MOST_SCORED: Final = 2  # where candidates are scored by the champion, which costs about a third of learning from them
_SCORED_AHEAD: Final = 0.1  # of the time at most goes into scores before the first step
_FEWEST_ROWS: Final = 1_024  # of a chunk, for batches of like length
_OLDEST_WEIGHT: Final = 0.25  # how likely the oldest row is to be picked, or seen early, beside the newest
_EASIEST_WEIGHT: Final = 0.25  # and the row with the least loss beside the one with the most
_NOISY_SHARE: Final = 0.03  # rows of an established kind that the champion finds hardest: mostly wrong labels

Losses = Callable[[TokenRows], npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How rows are picked. Equal choice, seed and data give equal rows, so a run that starts again keeps it.

    Attributes:
        pool: candidates for each row that is learned from; 1 takes all.
        chunk_rows: rows that are picked at a time.
        scored: whether the champion's loss of the candidates counts.
        since: rows observed later (seconds since the epoch) are recent; None: nothing is known of that.
        replay: established rows for every recent one at most; None: all.
    """

    pool: int = 1
    chunk_rows: int = CHUNK_ROWS
    scored: bool = False
    since: float | None = None
    replay: float | None = None

    def fitted(self, *, rows: int, fits: float, scoring_cost: float | None = None) -> "Choice":
        """The choice for data of which only `fits` rows can be learned from in the time that there is.

        Args:
            rows: all that there are.
            fits: rows, were nothing scored.
            scoring_cost: time that scoring a candidate takes, as a share of learning from a row; None: no scores.
        """
        fits = max(fits, 1.0)
        pool = int(np.clip(rows / fits, 1, MOST_CANDIDATES))
        chunk = int(np.clip(2.0 ** np.ceil(np.log2(fits)), _FEWEST_ROWS, self.chunk_rows))
        if scoring_cost is not None and pool > 1:
            ahead = int(_SCORED_AHEAD * fits / (scoring_cost * MOST_SCORED))
            if ahead >= _FEWEST_ROWS:
                return replace(self, pool=MOST_SCORED, chunk_rows=min(chunk, ahead), scored=True)
        return replace(self, pool=pool, chunk_rows=chunk)

    def to_json(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return dict(vars(self))


def chunk_rows_of(batch_tokens: int) -> int:
    """Rows of a chunk: enough of them for batches of that size."""
    return max(CHUNK_ROWS, 2 * batch_tokens)


def choose(
    rows: int,
    observed: npt.NDArray[Any] | None,
    choice: Choice,
    chance: np.random.Generator,
    losses: npt.NDArray[np.float32] | None = None,
) -> Index:
    """Pick among candidates, in random order.

    Weights rise in a line with age from the oldest to the newest, and with the rank of the champion's loss. Before
    that, established rows beyond their share and those that the champion finds hardest are left out; a recent row is
    never taken for noise, because what is new is hard.
    """
    wanted = -(-rows // choice.pool)
    left = chance.permutation(rows)
    recent = _recent(rows, observed, choice)[left]
    if choice.replay is not None and choice.since is not None:
        allowed = round(choice.replay * int(recent.sum()))
        kept = recent | (np.cumsum(~recent) <= allowed)
        left, recent = left[kept], recent[kept]
    if choice.pool == 1 or len(left) <= wanted:
        return left
    weights = _by_age(observed, left)
    if losses is not None:
        found = losses[left]
        ranks = np.argsort(np.argsort(found)) / max(1, len(found) - 1)
        weights = weights * (_EASIEST_WEIGHT + (1.0 - _EASIEST_WEIGHT) * ranks)
        weights = np.where((ranks > 1.0 - _NOISY_SHARE) & ~recent, 0.0, weights)
    best = np.argpartition(-_keys(weights, chance), wanted - 1)[:wanted]
    return left[np.sort(best)]


def order_of_pass(rows: int, seed: int, epoch: int, *, prefer_new: bool) -> Index:
    """The order in which a pass sees the rows.

    With `prefer_new` a newer row is likelier to come early, so that a pass which the deadline cuts short has seen a
    sample of everything with more of what is new. Weights rise in a line from a quarter for the oldest row to one.
    """
    chance = np.random.default_rng((seed, epoch))
    if not prefer_new:
        return chance.permutation(rows)
    weights = np.linspace(_OLDEST_WEIGHT, 1.0, rows)
    return np.argsort(-_keys(weights, chance), kind="stable")


class ChampionLoss:
    """The loss of rows under a model as it is now; what is learned later does not change it."""

    def __init__(self, model: PairClassifier, device: torch.device) -> None:
        self._model = copy.deepcopy(model).to(device)

    def __call__(self, rows: TokenRows) -> npt.NDArray[np.float32]:
        """Cross-entropy of each row."""
        right = score(self._model, rows)[np.arange(len(rows)), rows.labels.astype(np.int64)]
        return -np.log(np.maximum(right, np.finfo(np.float32).tiny))


def _keys(weights: npt.NDArray[np.float64], chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """The rows with the highest keys are a sample without replacement by weight, at any number of them.

    Efraimidis and Spirakis 2006, https://doi.org/10.1016/j.ipl.2005.11.003.
    """
    keys: npt.NDArray[np.float64] = np.log(np.maximum(chance.random(len(weights)), 1e-300)) / np.maximum(weights, 1e-9)
    return keys


def _recent(rows: int, observed: npt.NDArray[Any] | None, choice: Choice) -> npt.NDArray[np.bool_]:
    if observed is None or choice.since is None:
        return np.zeros(rows, np.bool_)
    return np.asarray(observed > choice.since)


def _by_age(observed: npt.NDArray[Any] | None, index: Index) -> npt.NDArray[np.float64]:
    if observed is None:
        return np.ones(len(index))
    seen = observed[index].astype(np.float64)
    span = float(np.ptp(seen))
    share = (seen - seen.min()) / span if span else np.ones(len(index))
    return np.asarray(_OLDEST_WEIGHT + (1.0 - _OLDEST_WEIGHT) * share)
