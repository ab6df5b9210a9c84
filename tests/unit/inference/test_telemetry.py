"""onnxruntime reports to its vendor unless a variable is set before it is imported."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import importlib.abc, os, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch())
import {module}
import onnxruntime
"""


@pytest.mark.parametrize(
    "module", ["absa.inference.engine", "serving.process.worker", "absa.batch.partition_job", "flows.cli.commands"]
)
def test_telemetry_is_off_before_onnxruntime_is_imported(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True)
    assert ended.stdout.splitlines()[0] == "1"
