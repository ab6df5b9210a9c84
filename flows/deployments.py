"""The deployments, served from one process: `python -m flows.deployments`."""

from typing import Any

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

from flows.automations import ensure_automation
from flows.batch import batch
from flows.continuous_training import continuous_training
from flows.monitor import monitor
from flows.promote import promote
from flows.settings import Settings, apply_environment


def deployments(settings: Settings) -> list[Any]:
    """Every deployment of the platform.

    One training and one promotion run at a time; the monitor runs once a window. The verdict record, not an event,
    decides about a retraining.
    """
    one_waits = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    return [
        continuous_training.to_deployment(
            "continuous-training",
            parameters={"budget_s": settings.budget_s},
            concurrency_limit=one_waits,
            description="Train on the newest snapshot inside a budget, judge, register.",
            tags=["evergreen"],
        ),
        monitor.to_deployment(
            "monitor",
            interval=settings.window_s if settings.schedule_monitor else None,
            concurrency_limit=one_waits,
            description="Judge the last window of live traffic; start a retraining when it is stale and it pays.",
            tags=["evergreen"],
        ),
        promote.to_deployment(
            "promote",
            concurrency_limit=one_waits,
            description="Take a challenger through shadow and A/B to champion, or roll it back.",
            tags=["evergreen"],
        ),
        batch.to_deployment(
            "batch", description="Score a file, a folder or a prefix with a registered version.", tags=["evergreen"]
        ),
    ]


def main() -> None:
    """Serve the deployments until the process is ended."""
    settings = Settings.load()
    apply_environment(settings)
    ensure_automation()
    serve(*deployments(settings), pause_on_shutdown=False)


if __name__ == "__main__":
    main()
