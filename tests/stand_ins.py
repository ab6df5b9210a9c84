"""What several tests put in a real thing's place, or into a lake before they begin."""

from absa.ledger.record import LedgerRecord
from absa.records.schema import Window
from monitoring.verdicts import Verdict


class NoAliases:
    """A registry that shows nothing."""

    def project(self, head: LedgerRecord) -> list[str]:
        return []


def stale(window: Window) -> Verdict:
    """A verdict that asks for a retraining at the window's end."""
    return Verdict(
        window=window,
        verdict="STALE",
        version="1",
        by_version={},
        reasons=(),
        action="retrain",
        action_reason="300 new labels are there to learn from.",
        at=window.end,
    )
