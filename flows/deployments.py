"""Deployments: `python -m flows.deployments` serves them, or runs as the worker of a Prefect work pool."""

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from prefect import deploy, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType

from absa.errors import EvergreenError, PermanentError
from flows.batch.batch_flow import batch
from flows.monitoring.announcing import Announcer
from flows.monitoring.dead_runs import DeadRuns, dead_runs
from flows.monitoring.monitor_flow import monitor
from flows.monitoring.monitor_silence import SilenceWatch
from flows.platform.prefect_runs import MONITOR, PROMOTION, SCHEDULED, SCORING, TAG, TRAINING
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.platform.terminal import say
from flows.promotion.promote_flow import promote
from flows.promotion.take_over import take_over
from flows.training.training_flow import continuous_training

_OWN_SLUG: Final = "evergreen-"  # prefix of the names of schedules that the settings make
_TRAINING_TIMES: Final = {"nightly": "0 2 * * *", "weekly": "0 2 * * 0"}  # cron, UTC
_PACKAGE_OF: Final = {"process": "prefect", "ecs": "prefect-aws"}  # package with the worker of each kind
_WATCH_EVERY_S: Final = 60.0


def own_schedules(settings: Settings) -> dict[str, list[Schedule]]:
    """Return the schedules that the settings make for monitor and training, by deployment."""
    found: dict[str, list[Schedule]] = {}
    if settings.schedule_monitor:
        window = timedelta(seconds=settings.window_s)
        found[MONITOR] = [Schedule(interval=window, slug=f"{_OWN_SLUG}monitor")]
    if (cron := _TRAINING_TIMES.get(settings.schedule_training)) is not None:
        parameters = {"reason": SCHEDULED}
        found[TRAINING] = [Schedule(cron=cron, timezone="UTC", slug=f"{_OWN_SLUG}training", parameters=parameters)]
    return found


def users_schedules(settings: Settings) -> dict[str, list[DeploymentScheduleCreate]]:
    """Remove the schedules that the settings no longer make, and return the schedules of users, by deployment.

    Without this, serving the deployments would replace a user's schedules. The monitor's intervals without a name come
    from an earlier release.
    """
    own, found = own_schedules(settings), dict[str, list[DeploymentScheduleCreate]]()
    with get_client(sync_client=True) as client:
        for name in (TRAINING, MONITOR, PROMOTION, SCORING):
            try:
                deployment = client.read_deployment_by_name(name)
            except ObjectNotFound:  # at the first start
                continue
            made = {each.slug for each in own.get(name, ())}
            found[name] = []
            for each in deployment.schedules:
                if (each.slug or "").startswith(_OWN_SLUG):
                    if each.slug not in made:
                        client.delete_deployment_schedule(deployment.id, each.id)
                elif not (name == MONITOR and each.slug is None and isinstance(each.schedule, IntervalSchedule)):
                    kept = each.model_dump(include={"schedule", "active", "max_scheduled_runs", "parameters", "slug"})
                    found[name].append(DeploymentScheduleCreate.model_validate(kept))
    return found


def deployments(
    settings: Settings, users: Mapping[str, Sequence[DeploymentScheduleCreate]] = MappingProxyType({})
) -> list[Any]:
    """Return every deployment of the platform.

    One training and one promotion run at a time; the monitor runs once per window. The verdict record, not an event,
    decides about a retraining.

    Args:
        settings: budget, schedules and work pool.
        users: schedules of users, by deployment, which are kept beside those of the settings.
    """
    own = own_schedules(settings)

    def schedules(name: str) -> list[Any]:
        made = [DeploymentScheduleCreate.from_schedule(each) for each in own.get(name, ())]
        kept = users.get(name, ())
        named = [each if each.slug else each.model_copy(update={"slug": str(uuid4())}) for each in kept]
        return [*made, *named]  # Prefect refuses named schedules beside unnamed ones

    by_module = (
        EntrypointType.MODULE_PATH if settings.work_pool else EntrypointType.FILE_PATH
    )  # the code is installed on the machines of the pool
    one_waits = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    return [
        continuous_training.to_deployment(
            "continuous-training",
            entrypoint_type=by_module,
            parameters={"budget_s": settings.budget_s},
            schedules=schedules(TRAINING),
            concurrency_limit=one_waits,
            description="Train on the newest snapshot inside a budget, judge, register.",
            tags=[TAG],
        ),
        monitor.to_deployment(
            "monitor",
            entrypoint_type=by_module,
            schedules=schedules(MONITOR),
            concurrency_limit=one_waits,
            description="Judge the last window of live traffic; start a retraining when it is stale and it pays.",
            tags=[TAG],
        ),
        promote.to_deployment(
            "promote",
            entrypoint_type=by_module,
            schedules=schedules(PROMOTION),
            concurrency_limit=one_waits,
            description="Take a challenger through shadow and A/B to champion, or roll it back.",
            tags=[TAG],
        ),
        batch.to_deployment(
            "batch",
            entrypoint_type=by_module,
            schedules=schedules(SCORING),
            description="Score a file, a folder or a prefix with a registered version.",
            tags=[TAG],
        ),
    ]


def job_template(known: dict[str, Any], kind: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Return the base job template of a work pool: Prefect's template for its kind, with our defaults.

    Args:
        known: Prefect's collection of worker types, from its server.
        kind: process or ecs.
        variables: default of each variable that is set.

    Raises:
        PermanentError: the template has no variable of that name.
    """
    template: dict[str, Any] = known[_PACKAGE_OF[kind]][kind]["default_base_job_configuration"]
    properties = template["variables"]["properties"]
    for name, value in variables.items():
        if name not in properties:
            raise PermanentError(
                f"EVERGREEN_WORK_POOL_VARIABLES: a pool of type {kind} has no variable {name}; it has "
                f"{', '.join(properties)}"
            )
        properties[name]["default"] = value
    return template


def ensure_pool(settings: Settings) -> None:
    """Create the work pool, or update its variables."""
    with get_client(sync_client=True) as client:
        known = client.request(
            "GET", "/collections/views/{view}", path_params={"view": "aggregate-worker-metadata"}
        ).json()
        template = job_template(known, settings.work_pool_type, settings.work_pool_variables)
        try:
            found = client.read_work_pool(settings.work_pool)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=settings.work_pool, type=settings.work_pool_type, base_job_template=template)
            )
            return
        if found.type != settings.work_pool_type:
            raise PermanentError(
                f"work pool {settings.work_pool} is of type {found.type}, not {settings.work_pool_type}: "
                "name another with EVERGREEN_WORK_POOL"
            )
        client.update_work_pool(settings.work_pool, WorkPoolUpdate(base_job_template=template))


def work(settings: Settings) -> None:
    """Add the deployments to the work pool, and run as its worker if the worker's package is installed."""
    ensure_pool(settings)
    deploy(
        *deployments(settings, users_schedules(settings)),
        work_pool_name=settings.work_pool,
        build=False,
        push=False,
        print_next_steps_message=False,
        ignore_warnings=True,
    )
    if find_spec(_PACKAGE_OF[settings.work_pool_type].replace("-", "_")) is None:
        say(
            f"The deployments are in work pool {settings.work_pool}. Start its worker on a machine where "
            f"{_PACKAGE_OF[settings.work_pool_type]} is installed: prefect worker start --pool {settings.work_pool}"
        )
        return
    pool = ("--pool", settings.work_pool, "--type", settings.work_pool_type)
    worker = subprocess.Popen([sys.executable, "-m", "prefect", "worker", "start", *pool])  # noqa: S603  our own command
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    sys.exit(worker.wait())


def look_around(services: Services, dead: DeadRuns, silence: SilenceWatch, announcer: Announcer) -> list[str]:
    """Free the slots of dead runs, continue experiments, report a silent monitor, announce records and trainings.

    The four tasks are independent: if one fails, the others are still done.
    """
    looks: list[tuple[str, Callable[[], list[str]]]] = [
        ("dead runs", dead.look),
        ("experiments", lambda: take_over(services, datetime.now(UTC))),
        ("the monitor", lambda: silence.look(datetime.now(UTC))),
        ("the webhook", lambda: announcer.look(datetime.now(UTC))),
    ]
    return [sentence for name, look in looks for sentence in _looked(name, look)]


def _looked(name: str, look: Callable[[], list[str]]) -> list[str]:
    try:
        return look()
    except (EvergreenError, OSError) as error:
        return [f"{name} could not be checked: {error}"]
    except Exception as error:  # the worker's thread goes on and tries again in a minute
        frames = "".join(traceback.format_tb(error.__traceback__)).splitlines()  # no message: it could quote a text
        return [f"{name} could not be checked: {type(error).__name__}", *frames]


def keep_watch(services: Services, dead: DeadRuns, silence: SilenceWatch, announcer: Announcer) -> None:
    """Call `look_around` once a minute. Never returns."""
    while True:
        time.sleep(_WATCH_EVERY_S)
        for sentence in look_around(services, dead, silence, announcer):
            say(sentence)


def keep_packages(services: Services) -> None:
    """Copy the packages of an earlier release, then once a minute the packages that routers lack. Never returns.

    Runs in its own thread, so that an MLflow that does not respond delays nothing else.
    """
    active = False
    while True:
        for sentence in _looked("packages", partial(services.copy_packages, active=active)):
            say(sentence)
        active = True
        time.sleep(_WATCH_EVERY_S)


def main() -> None:
    """Run the deployments until the process is ended."""
    services = build_services()
    watches = dead_runs(services), SilenceWatch(services, every_s=_WATCH_EVERY_S), Announcer(services)
    for sentence in look_around(services, *watches):  # before this worker takes a run
        say(sentence)
    threading.Thread(target=keep_watch, args=(services, *watches), daemon=True).start()
    threading.Thread(target=keep_packages, args=(services,), daemon=True).start()
    if services.settings.work_pool:
        work(services.settings)
    else:
        serve(*deployments(services.settings, users_schedules(services.settings)), pause_on_shutdown=False)


if __name__ == "__main__":
    main()
