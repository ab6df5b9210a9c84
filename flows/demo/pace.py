"""Options of a demo, and its pace at each scale: profile, budgets and traffic."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from absa.profiles import differences
from absa.task import ABSA

SLOW: Final = 1.3  # slowdown above which trainings get larger budgets


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options that the user gave."""

    scale: str = "full"
    task: str = ABSA.name
    data: Path | None = None
    drift: str | None = None
    keep: bool = True
    reset: bool = False

    @property
    def drifts(self) -> bool:
        """True if the traffic will drift."""
        return self.drift != "none"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Pace of a shortened demo: a profile, budgets in seconds, and the traffic of each chapter."""

    profile: str
    budget_s: float
    first_budget_s: float
    settle_s: float  # wait for the last feedback of a window and the router's next shipment
    rate: float  # requests per second
    waiting_rate: float  # requests per second while the monitor judges
    healthy_windows: int
    healthy_is_reported: bool
    all_at_once: bool  # start all parts before the first training, although it then has less processor time
    delay_scale: float  # factor of the delay between an answer and its feedback
    healthy_s: float
    drifted_s: float
    experiment_s: float

    def on_machine(self, slowdown: float) -> "Pace":
        """Return the pace with longer trainings for a machine that trains `slowdown` times slower than the reference.

        Windows and experiments keep their length, because the rate of the traffic stays the same.
        """
        if slowdown <= SLOW:
            return self
        budget_s, first_budget_s = round(self.budget_s * slowdown), round(self.first_budget_s * slowdown)
        return replace(self, budget_s=budget_s, first_budget_s=first_budget_s)

    def configuration(self) -> str:
        """Return the pace as the start of an evergreen.toml."""
        return f'profile = "{self.profile}"\n\n[training]\nbudget_s = {self.budget_s:g}\n'

    def variables(self) -> dict[str, str]:
        """Return the pace as environment variables."""
        return {"EVERGREEN_PROFILE": self.profile, "EVERGREEN_BUDGET_S": f"{self.budget_s:g}"}

    def changes(self) -> str:
        """Return the settings that the pace changes, in one line."""
        return ", ".join([*differences(self.profile), f"budget_s={self.budget_s:g}"])


PACES: Final = {
    "full": Pace(
        profile="demo",
        budget_s=90.0,
        first_budget_s=60.0,
        settle_s=2.5,
        rate=90.0,
        waiting_rate=40.0,
        healthy_windows=2,
        healthy_is_reported=True,
        all_at_once=False,
        delay_scale=1.0,
        healthy_s=3.5,
        drifted_s=24.0,
        experiment_s=130.0,
    ),
    "tiny": Pace(
        profile="test",
        budget_s=60.0,
        first_budget_s=60.0,
        settle_s=1.2,
        rate=200.0,
        waiting_rate=20.0,
        healthy_windows=1,
        healthy_is_reported=False,
        all_at_once=True,
        delay_scale=0.2,
        healthy_s=2.0,
        drifted_s=12.0,  # in 3 s, too few recent rows arrived for a PROMOTE of version 2
        experiment_s=90.0,
    ),
}
