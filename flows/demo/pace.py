"""What a demo can be asked for, and its pace at each scale: printed settings, and the traffic of each chapter."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

BUSY: Final = 1.3  # slowdown above which a machine counts as busy


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the user asked for."""

    scale: str = "full"
    data: Path | None = None
    drift: str | None = None
    keep: bool = True
    reset: bool = False

    @property
    def drifts(self) -> bool:
        """Whether the traffic will drift."""
        return self.drift != "none"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the demo is shortened: settings that are printed, and the traffic of each chapter."""

    settings: dict[str, str]
    first_budget_s: float
    settle_s: float  # the last feedback of a window and the router's next shipment
    rate: float
    waiting_rate: float  # while the monitor looks
    healthy_windows: int
    healthy_is_reported: bool
    all_at_once: bool  # every part starts with the first ones, though the training then has less of the processor
    delay_scale: float  # multiplies the customers' delays before they say what was right
    healthy_s: float
    drifted_s: float
    experiment_s: float

    def on_machine(self, slowdown: float) -> "Pace":
        """Return this pace for a machine that is so many times slower than an idle one: trainings get that much more.

        Windows and experiments keep their length: the traffic is bounded by its rate.
        """
        if slowdown <= BUSY:
            return self
        budget_s = float(self.settings["EVERGREEN_BUDGET_S"]) * slowdown
        settings = self.settings | {"EVERGREEN_BUDGET_S": f"{budget_s:.0f}"}
        return replace(self, settings=settings, first_budget_s=round(self.first_budget_s * slowdown))


PACES: Final = {
    "full": Pace(
        settings={
            "EVERGREEN_BUDGET_S": "90",
            "EVERGREEN_REPLAY": "0.25",
            "EVERGREEN_BEHAVIOUR_CASES": "30",
            "EVERGREEN_BEHAVIOUR_MARGIN": "1",
            "EVERGREEN_MAX_INT8_F1_LOSS": "0.03",
            "EVERGREEN_MAX_EPOCHS": "4",
            "EVERGREEN_WARM_LAYERS": "3",
            "EVERGREEN_EMBED_ROWS": "200",
            "EVERGREEN_RAMP": "0.25,0.5",
            "EVERGREEN_STEP_S": "4",
            "EVERGREEN_SHADOW_S": "4",
            "EVERGREEN_MIN_EXPOSURE": "150",
            "EVERGREEN_MAX_EXPERIMENT_S": "120",
            "EVERGREEN_COOLDOWN_S": "0",
            "EVERGREEN_SHIP_INTERVAL_S": "1",
            "EVERGREEN_REFERENCE_ROWS": "300",
            "EVERGREEN_SCHEDULE_MONITOR": "false",
        },
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
        settings={
            "EVERGREEN_LAYERS": "1",
            "EVERGREEN_HIDDEN": "128",
            "EVERGREEN_LEARNING_RATE": "3e-3",
            "EVERGREEN_BATCH_TOKENS": "512",
            "EVERGREEN_BUDGET_S": "60",
            "EVERGREEN_REPLAY": "1",
            "EVERGREEN_MAX_EPOCHS": "3",
            "EVERGREEN_WARM_EPOCHS": "2",
            "EVERGREEN_EMBED_ROWS": "0",
            "EVERGREEN_RAMP": "0.5",
            "EVERGREEN_STEP_S": "2",
            "EVERGREEN_SHADOW_S": "1",
            "EVERGREEN_MIN_EXPOSURE": "100",
            "EVERGREEN_MIN_RECENT_ROWS": "60",
            "EVERGREEN_MIN_SLICE_ROWS": "1000",
            "EVERGREEN_ESTABLISHED_MARGIN": "0.05",
            "EVERGREEN_BEHAVIOUR_CASES": "10",
            "EVERGREEN_BEHAVIOUR_MARGIN": "1",
            "EVERGREEN_MAX_INT8_F1_LOSS": "0.1",
            "EVERGREEN_MAX_EXPERIMENT_S": "60",
            "EVERGREEN_COOLDOWN_S": "0",
            "EVERGREEN_SHIP_INTERVAL_S": "0.5",
            "EVERGREEN_REFERENCE_ROWS": "300",
            "EVERGREEN_SCHEDULE_MONITOR": "false",
        },
        first_budget_s=60.0,
        settle_s=1.2,
        rate=200.0,
        waiting_rate=100.0,
        healthy_windows=1,
        healthy_is_reported=False,
        all_at_once=True,
        delay_scale=0.2,
        healthy_s=2.0,
        drifted_s=3.0,
        experiment_s=90.0,
    ),
}
