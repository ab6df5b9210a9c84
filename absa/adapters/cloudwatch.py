"""Metrics for CloudWatch as log lines in embedded metric format, which need no call to AWS and no permission.

The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import time
from collections.abc import Mapping
from typing import Final

NAMESPACE: Final = "Evergreen"


def metric_line(service: str, values: Mapping[str, float], *, at_s: float | None = None, fine: bool = False) -> str:
    """Return one log line from which CloudWatch makes metrics with the dimension Service.

    Args:
        service: router, monitor or training.
        values: metrics by name.
        at_s: time of the values, in seconds since the epoch; None: now.
        fine: True: one value per second is stored, so that an alarm can check every ten seconds; False: per minute.
    """
    kept = {"StorageResolution": 1} if fine else {}
    described = {
        "Timestamp": round((time.time() if at_s is None else at_s) * 1000),
        "CloudWatchMetrics": [
            {
                "Namespace": NAMESPACE,
                "Dimensions": [["Service"]],
                "Metrics": [{"Name": name, **kept} for name in values],
            }
        ],
    }
    return json.dumps({"_aws": described, "Service": service, **values})


def publish(service: str, values: Mapping[str, float], *, fine: bool = False) -> None:
    """Print a metric line to standard output, which the platform sends to the log."""
    print(metric_line(service, values, fine=fine), flush=True)  # noqa: T201  the line is what CloudWatch reads
