"""Structured logs: one JSON object per line on standard error. No record holds a customer's text."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from absa.sinks import log_line

_QUIET: Final = ("uvicorn.error", "uvicorn.access", "botocore", "boto3", "urllib3")


class JsonLines(logging.Formatter):
    """Formatter of JSON lines: time, level, process, logger, message, and a traceback of an exception.

    Args:
        process: name of the process: `parent`, or the number of a worker.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON without control characters, which could end it or move a terminal's cursor."""
        content = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return log_line(json.dumps(content, ensure_ascii=False))


def log_to_stderr(process: str) -> None:
    """Write the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # invalid requests of clients get no line
