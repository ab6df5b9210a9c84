"""The synthesised templates, made once a session in a process of its own."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import sys
from pathlib import Path
from infra.aws.app import build_cdk_app
build_cdk_app(into=Path(sys.argv[1])).synth()
"""


def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the cloud assembly, one for all processes that test; made by the first that asks."""
    mine = tmp_path_factory.getbasetemp()
    root = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    with (root / "cdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        synthesised(root / "cdk.out")
    return root / "cdk.out"


@cache
def synthesised(folder: Path) -> dict[str, dict[str, Any]]:
    """Template by environment; the test is skipped where node is not installed."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed, and the AWS CDK runs on it")
    pytest.importorskip("aws_cdk", reason="aws-cdk-lib is not installed")
    if (folder / "manifest.json").exists():  # a process beside this one has made it
        return _templates(folder)
    quiet = {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder)],
        cwd=ROOT,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return _templates(folder)


def _templates(folder: Path) -> dict[str, dict[str, Any]]:
    names = ("dev", "prod")
    return {name: json.loads((folder / f"evergreen-{name}.template.json").read_text()) for name in names}
