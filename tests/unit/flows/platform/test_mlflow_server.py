"""Tests of MLflow's page and of every place that starts its server."""

import re
from pathlib import Path

import yaml

from flows.platform.mlflow_server import quiet_page
from flows.platform.processes import parts
from flows.platform.settings import Settings

ROOT = Path(__file__).parents[4]
MODULE = ["-m", "flows.platform.mlflow_server"]


def test_quiet_page_script_runs_before_mlflow() -> None:
    page = quiet_page("<!doctype html><html><head><script defer src=main.js></script></head></html>")
    assert page.index("mlflow.telemetry.info.alert.dismissed_v1") < page.index("main.js")
    assert page.count("<script>") == 1
    assert page.index("registered-models/search") < page.index("main.js")


def test_local_server_starts_with_quiet_page(tmp_path: Path) -> None:
    assert list(parts(Settings(home=tmp_path), {})["mlflow"].command[1:3]) == MODULE


def test_compose_server_starts_with_quiet_page() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["mlflow"]
    assert service["command"][1:3] == MODULE
    assert service["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_no_code_starts_the_plain_server() -> None:
    plain = re.compile(r"""mlflow["']?,\s*["']server|\bmlflow server --""")
    files = [*ROOT.glob("flows/**/*.py"), *ROOT.glob("infra/**/*.py"), ROOT / "docker-compose.yml", ROOT / "Makefile"]
    assert [str(file) for file in files if plain.search(file.read_text(encoding="utf-8"))] == []
