"""Modules that may write where operators read: everything else goes through `absa.sinks`."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("absa", "flows", "monitoring", "serving")
# calls that write to a sink, and the modules that may make them, with the reason where it is no sink of ours
PLACES = {
    "spreadsheet": (
        r"csv\.writer|csv\.DictWriter|.*\.write_csv|.*\.to_csv|.*\.write_excel",
        {
            "absa/sinks.py": "the sink",
            "absa/src/evaluation.py": "rows for programs: the texts of the input, unchanged",
            "absa/data/files/workbooks.py": "bytes in memory that ingest reads",
            "flows/demo/customer_stream.py": "rows that the demo ingests again",
        },
    ),
    "Prefect": (r"(.*\.)?a?(create|update)_\w+_artifact", {"flows/platform/artifacts.py": "the sink"}),
    "page": (r"(html\.)?escape|(.*\.)?render_template\w*|Markup", {"absa/sinks.py": "the sink"}),
    "Evidently": (
        r"(.*\.)?(text_widget|save_html|get_html_str)",
        {
            "monitoring/evidently_reports.py": "passes names through sinks",
            "monitoring/batch_drift.py": "saves such a report",
        },
    ),
    "terminal": (
        r"(typer|click)\.(echo|secho)|print|(.*\.)?_?console\.print|(sys|self)\._?(out|stdout|stderr)\.write",
        {
            "flows/platform/terminal.py": "the sink",
            "flows/demo/machine_speed.py": "a number for the process that started it",
            "flows/cli/live_commands.py": "the progress of simulated traffic: numbers alone",
            "absa/src/evaluation.py": "runs alone; counts and errors, no text",
            "absa/src/submission.py": "runs alone; passes lines through the sink",
            "absa/data/token_shards.py": "error of a step, for the process that started it",
            "absa/job.py": "JSON events for the process that started it",
            "absa/training/teacher.py": "JSON events for the process that started it",
            "absa/packaging/validate.py": "JSON for the process that started it",
            "absa/adapters/cloudwatch.py": "JSON for CloudWatch: counts alone",
            "serving/process/replica.py": "passes errors of a start-up step through the sink",
        },
    ),
    "chart": (
        r".*\.(set_[xy]ticks|set_[xy]ticklabels|annotate)",
        {"monitoring/insights.py": "passes names through sinks", "absa/evaluation/plots.py": "names of labels alone"},
    ),
    "log": (
        r"(logging\.)?Formatter",
        {
            "serving/observe/json_logs.py": "the sink",
            "flows/cli/output/library_log.py": "passes the lines of libraries through the sink",
        },
    ),
}  # fmt: skip
LOGGERS = {
    "absa/batch/ray_cluster.py": "sets the level of a library's logger",
    "flows/platform/artifacts.py": "passes its lines through the sink",
    "flows/platform/liveness.py": "passes its lines through the sink",
}
PAGES = {"absa/evaluation/gate_report.py", "serving/http/docs_page.py"}


@cache
def modules() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Every module's dotted names, called, passed on or derived from, and its literal texts."""
    found = {}
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = frozenset(ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute))
        literals = tuple(str(node.value) for node in nodes if isinstance(node, ast.Constant))
        found[path.relative_to(ROOT).as_posix()] = (names, literals)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_sink_is_written_by_known_modules_alone(place: str) -> None:
    pattern, known = PLACES[place]
    found = {name for name, (used, _) in modules().items() if any(re.fullmatch(pattern, each) for each in used)}
    assert found == set(known)


def test_loggers_outside_the_router_use_the_sink() -> None:
    """The router's lines pass the formatter of `json_logs.py`; Prefect's loggers have formatters of their own."""
    loggers = {"get_run_logger", "logging.getLogger", "getLogger"}
    found = {name: used for name, (used, _) in modules().items() if loggers & used and not name.startswith("serving/")}
    assert set(found) == set(LOGGERS)
    assert {name for name, used in found.items() if "log_line" in used} == {
        name for name, reason in LOGGERS.items() if reason.startswith("passes")
    }


def test_prometheus_text_uses_the_sink() -> None:
    found = {name: used for name, (used, _) in modules().items() if "generate_latest" in used}
    assert set(found) == {"monitoring/verdict_metrics.py", "serving/observe/exposition.py"}
    assert all("metric_label" in used for used in found.values())


def test_html_is_built_by_known_modules_alone() -> None:
    tag = re.compile(r"<(html|body|table|td|script)\b")
    found = {name for name, (_, literals) in modules().items() if any(map(tag.search, literals))}
    assert found == PAGES | {"flows/platform/mlflow_server.py"}  # a script of constants


def test_scripts_of_pages_write_text_not_markup() -> None:
    scripts = [ROOT / "serving/console/page/console.js", ROOT / "serving/http/docs_page.py"]
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc")
    assert [script.name for script in scripts if forbidden.search(script.read_text(encoding="utf-8"))] == []
