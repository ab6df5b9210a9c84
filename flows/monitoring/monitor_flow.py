"""Flow monitor: translates `monitor_window` into a run of Prefect."""

from datetime import datetime
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from absa.records.schema import Window
from flows.platform.artifacts import flow_services, leave_signs


def _run_name() -> str:
    return f"window-{flow_run.parameters.get('window') or 'last'}"


@flow(name="monitor", flow_run_name=_run_name, on_running=[leave_signs])
def monitor(
    window: Annotated[
        str | None, Field(description="Window as <start>_<end>; unset: the last one before the scheduled time.")
    ] = None,
    retrain: Annotated[bool, Field(description="Start the retraining that is due.")] = True,
    report: Annotated[bool, Field(description="Write an Evidently report.")] = True,
) -> dict[str, Any]:
    """Judge one window of live traffic. A retraining that is due starts before the report is written."""
    from flows.monitoring.monitor_window import MonitorRequest, due_window, monitor_window  # slow: polars and scipy

    services = flow_services()
    due: datetime = flow_run.scheduled_start_time
    chosen = Window.parse(window) if window else due_window(due, services.clock(), services.settings.window_s)
    return monitor_window(services, MonitorRequest(window=chosen, retrain=retrain, report=report)).to_json()
