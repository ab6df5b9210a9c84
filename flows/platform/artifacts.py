"""Ports of a flow run: artifacts, log, sign of life, and a task run for each step.

Prefect renders descriptions and table cells as Markdown.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from absa.errors import TransientError
from absa.sinks import log_line, markdown
from flows.platform.liveness import keep_signing
from flows.platform.ports import DELAYS_S
from flows.platform.services import Services, build_services

_T = TypeVar("_T")


def flow_services() -> Services:
    """Return the services of a flow: settings from the environment, steps and reports shown in Prefect."""
    return build_services(steps=task_run, reporter=PrefectReporter())


def task_run(name: str, action: Callable[[], _T], *, again: bool = False) -> _T:
    """Run a step as a task run of the flow; see `flows.platform.ports.Steps`."""
    step = task(
        name=name,
        cache_policy=NO_CACHE,
        retries=len(DELAYS_S) if again else 0,
        retry_delay_seconds=list(DELAYS_S),
        retry_condition_fn=_may_help,
    )
    return step(action)()


def _may_help(_task: Any, _run: Any, state: Any) -> bool:
    """Return True if the task failed with a TransientError, so that a repetition may succeed."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def leave_signs(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001  Prefect's signature of a hook
    """Renew the sign of life of a deployment's run until its process ends. Prefect's hook for the start of a run."""
    if flow_run.deployment_id is None:
        return  # a command runs the flow: the run holds no concurrency slot that its death would block
    keep = partial(keep_signing, build_services().lake, str(flow_run.id), ended=threading.Event())
    threading.Thread(target=keep, name="sign-of-life", daemon=True).start()


class PrefectReporter:
    """`Reporter` whose pages, tables and bars are artifacts of the flow run."""

    def page(self, page: str, *, key: str, description: str) -> None:
        """Show a Markdown page. The caller has escaped each text in it by `absa.sinks`."""
        create_markdown_artifact(page, key=key, description=markdown(description))

    def table(self, rows: Sequence[Mapping[str, Any]], *, key: str, description: str) -> None:
        """Show rows as a table. Markup in a text is shown, not rendered."""
        create_table_artifact([_plain(row) for row in rows], key=key, description=markdown(description))

    def progress(self, *, key: str, description: str) -> Callable[[float], None]:
        """Show a bar at 0 %. The returned function sets it to a percentage of 0 to 100."""
        bar = cast(UUID, create_progress_artifact(0.0, key=key, description=markdown(description)))

        def move(percent: float) -> None:
            update_progress_artifact(bar, percent)

        return move

    def log(self, line: str) -> None:
        """Write a line to the run's log."""
        get_run_logger().info("%s", log_line(line))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: markdown(value) if isinstance(value, str) else value for name, value in row.items()}
