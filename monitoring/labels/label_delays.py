"""Delays of labels: the share of expected labels that has come by an age, from the delays observed so far.

Only labels that have come are known, so young rows show only fast labels: delays are truncated at the row's age. The
estimate is the product-limit estimator in reverse time, made for reporting delays (Lagakos, Barraj and De Gruttola
1988, Biometrika 75, 515). Labels that are later than the oldest row stay unknown.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from monitoring.drift.sample import Floats

MIN_DELAYS: Final = 30
_MIN_AT_RISK: Final = 20


@dataclass(frozen=True, kw_only=True)
class LabelDelays:
    """Ascending observed delays (k,) in s, the share (k,) of labels that came by each, and the log error (k,) of it.

    A share is relative to the labels that come within `horizon_s`.
    """

    delays_s: Floats
    shares: Floats
    log_errors: Floats
    horizon_s: float

    def share(self, ages_s: Floats) -> Floats:
        """Return the share of expected labels that has come by these ages: above 0, and 1 from the horizon on."""
        at = np.searchsorted(self.delays_s, ages_s, side="right") - 1
        found = self.shares[np.maximum(at, 0)]
        return np.asarray(np.where(ages_s >= self.horizon_s, 1.0, found))

    def log_error(self, ages_s: Floats) -> Floats:
        """Return the standard error of the logarithm of each share."""
        at = np.searchsorted(self.delays_s, ages_s, side="right") - 1
        return np.asarray(np.where(ages_s >= self.horizon_s, 0.0, self.log_errors[np.maximum(at, 0)]))


def fit_label_delays(delays_s: Floats, ages_s: Floats) -> LabelDelays | None:
    """Fit the delays of labels; None with fewer than `MIN_DELAYS` labels.

    Args:
        delays_s: time from request to label (n,), at most the row's age.
        ages_s: time from request to now (n,).
    """
    kept = np.isfinite(delays_s) & np.isfinite(ages_s) & (delays_s <= ages_s)
    delays, ages = delays_s[kept], np.sort(ages_s[kept])
    if len(delays) < MIN_DELAYS:
        return None
    times, counts = np.unique(delays, return_counts=True)
    # at risk: labels that came within a delay, of rows that were old enough to show this delay
    at_risk = np.searchsorted(np.sort(delays), times, side="right") - np.searchsorted(ages, times, side="left")
    enough = np.flatnonzero(at_risk >= _MIN_AT_RISK)
    if len(enough) == 0:
        return None
    last = int(enough[-1]) + 1  # beyond it too few rows are old enough
    times, counts, at_risk = times[:last], counts[:last], np.maximum(at_risk[:last], counts[:last])
    hazards = np.minimum(counts / at_risk, 1.0 - 1e-3)
    after = np.concatenate([np.cumsum(np.log1p(-hazards)[::-1])[::-1][1:], [0.0]])
    noise = hazards / (at_risk * (1.0 - hazards))
    errors = np.sqrt(np.concatenate([np.cumsum(noise[::-1])[::-1][1:], [0.0]]))
    return LabelDelays(delays_s=times, shares=np.exp(after), log_errors=errors, horizon_s=float(times[-1]))
