"""Documents agree with the code: tests that they name exist, made pages are as the code makes them."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from docs.checks.documented_commands import (
    EXCEPTIONS,
    calls,
    documented_commands,
    problem,
    problems,
    statements,
)
from flows.platform.settings import PARTS

ROOT = Path(__file__).parents[2]
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")


def test_each_threat_names_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text(encoding="utf-8").splitlines() if "| `test_" in line]
    assert len(rows) > 8
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text(encoding="utf-8"))
    assert [name for name in named if f"def {name}(" not in written] == []


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "docs/generate_reference.py", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").iterdir()}
    fresh = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    some = re.compile(rf"\| ({'|'.join(re.findall(r'^([^=]+)==.* ; ', pins, flags=re.MULTILINE))}) \|.*\n")
    for pages in (kept, fresh):  # some Pythons lack these packages
        pages["licences.md"] = some.sub("", pages["licences.md"])
    assert set(kept) == set(fresh)
    stale = [name for name in kept if kept[name] != fresh[name]]
    assert stale == [], "run `make reference`"


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_rooms_page_points_at_is_there(room: str) -> None:
    page = (ROOT / room / "README.md").read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)", page) if "://" not in target]
    files = re.findall(r"`([a-z_./]+\.py)`", page)
    missing = [each for each in (*links, *files) if not (ROOT / room / each).exists()]
    assert missing == []


def test_site_builds_and_links_resolve() -> None:
    built = subprocess.run(
        [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    assert (ROOT / "site" / "index.html").is_file()
    pages = {page.name: _unrendered(page.read_text(encoding="utf-8")) for page in (ROOT / "site").rglob("*.html")}
    assert {name: found for name, found in pages.items() if found} == {}


def _unrendered(page: str) -> list[str]:
    """Return list items, table rows and fences that the site shows as they are written."""
    article = page.partition("<article")[2].partition("</article")[0]
    prose = re.sub(r"<(pre|code)\b.*?</\1>", "", article, flags=re.DOTALL)
    return re.findall(r"\n(?:\d+\. |- |\| )|```", prose)


def test_steps_that_run_together_are_found() -> None:
    assert _unrendered("<article><p>Deploy:</p><pre>1\n2. x</pre>\n3. Train</p></article>") == ["\n3. "]


def test_documents_show_the_measured_figures() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/insert_figures.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_figures_start_no_line() -> None:
    """A comment at the start of a line ends the paragraph, on the site and on GitHub."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = {
        page.name for page in pages if re.search(r"^ *<!-- figure", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == set()


def test_stale_figure_is_replaced() -> None:
    insert = runpy.run_path(str(ROOT / "docs" / "insert_figures.py"))
    page = "F1 <!-- figure f1 -->0.5<!-- end --> of 1"
    assert insert["with_figures"](page, {"f1": "0.7"}) == "F1 <!-- figure f1 -->0.7<!-- end --> of 1"


def test_figure_without_a_row_is_refused() -> None:
    figure = runpy.run_path(str(ROOT / "docs" / "insert_figures.py"))["figure"]
    with pytest.raises(ValueError, match="expected one row"):
        figure(ROOT, {"result": "tasks", "case": "no such case", "metric": "f1", "show": "{value}"})


def table_of(tmp_path: Path, rows: list[dict[str, object]] | None) -> str:
    """Return a table of two rows from a result, or without one."""
    if rows is not None:
        result = {
            "command": "make benchmark-speed", "date": "2026-11-30", "commit": "abc", "rows": rows,
            "machine": {"cpu": "EPYC", "cores": 2, "accelerator": None},
        }  # fmt: skip
        (tmp_path / "benchmarks" / "results").mkdir(parents=True)
        (tmp_path / "benchmarks" / "results" / "speed.json").write_text(json.dumps(result))
    wanted = {
        "result": "speed",
        "what": "batch",
        "columns": [
            {"head": "rows/s", "case": "{case} rows", "metric": "rate", "show": "{value:.0f}"},
            {"head": "target", "case": "{case} rows", "metric": "rate", "show": "{target}"},
        ],
        "rows": [{"what": "small", "case": "1"}, {"what": "large", "case": "20*"}],
    }
    made: str = runpy.run_path(str(ROOT / "docs" / "insert_figures.py"))["table"](tmp_path, wanted)
    return made


def test_table_marks_rows_not_measured_yet(tmp_path: Path) -> None:
    row = {"case": "2000 rows", "metric": "rate", "value": 5.2, "target": ">= 6000", "met": False}
    assert table_of(tmp_path, [row]).splitlines() == [
        "| batch | rows/s | target |",
        "|---|---|---|",
        "| small | not measured yet |  |",
        "| large | 5 | >= 6,000: **missed** |",
        "",
        "`make benchmark-speed` on EPYC, 2 cores; 2026-11-30, commit abc.",
    ]


def test_table_without_result_names_its_command(tmp_path: Path) -> None:
    assert table_of(tmp_path, None) == "Not measured yet, command: `make benchmark-speed`."


def test_table_is_replaced_between_its_marks() -> None:
    insert = runpy.run_path(str(ROOT / "docs" / "insert_figures.py"))
    page = "<!-- table t -->\n\nold\n\n<!-- end -->\n<!-- figure f -->1<!-- end -->"
    assert insert["with_figures"](page, {"t": "\n\nnew\n\n", "f": "2"}) == page.replace("old", "new").replace("1", "2")


def test_release_needs_named_changes_and_missed_targets(tmp_path: Path) -> None:
    check = runpy.run_path(str(ROOT / "docs" / "release_check.py"))["problems"]
    for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "speed.json").write_text('{"rows": [{"met": false}]}')
    said = " ".join(check(tmp_path))
    assert all(word in said for word in ("'## 1.2 (DATE)'", "not committed", "must name speed"))
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2 (2026-11-26)\n\nFalls short: speed\n")
    for words in (["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert check(tmp_path) == []
    subprocess.run(["git", "tag", "v1.2"], cwd=tmp_path, check=True)
    assert check(tmp_path) == ["the tag v1.2 is there already: raise the version in pyproject.toml"]


def test_documented_commands_are_accepted_by_their_parsers() -> None:
    found = [*documented_commands(ROOT)]
    assert len(found) > 300
    assert {program for each in found for program, _ in calls(each.text)} == {"evergreen", "make", "python"}
    assert [*problems(ROOT, EXCEPTIONS)] == []


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("evergreen tran tickets.csv", "no command 'tran'"),
        ("evergreen labels exprt queue.csv", "no command 'exprt'"),
        ("evergreen train --buget 300", "No such option: --buget"),
        ("evergreen train --budget soon", "valid number"),
        ("evergreen train --budget -5", "above 0"),
        ("evergreen status now", "unexpected words: now"),
        ("evergreen batch verify", "output_uri is missing"),
        ("EVERGREEN_HOME=h sudo .venv/bin/evergreen up && evergreen dwn", "no command 'dwn'"),
        ("python -m flows.cli tran", "no command 'tran'"),
        ("make al", "no target 'al'"),
        ("make demo SCLAE=tiny", "no variable SCLAE"),
        ('make benchmark-drift ARGS="--run 3"', "no option --run"),
        ("python -m benchmarks drft", "no benchmark is named 'drft'"),
        ("python -m benchmarks drift --run 3", "no option --run"),
        ("python -m absa.jobb FOLDER", "absa/jobb.py does not exist"),
        ("python docs/generate.py", "docs/generate.py does not exist"),
    ],
)
def test_command_that_its_program_refuses_is_found(command: str, refusal: str) -> None:
    said = [problem(ROOT, program, words, whole=True) for program, words in calls(command)]
    assert refusal in str(said[-1])


@pytest.mark.parametrize(
    "command",
    [
        "evergreen COMMAND --help",
        "evergreen train --budget S FILE  # seconds",
        "evergreen batch --input in/ --output out/ [--log]",
        "make benchmark-NAME",
        "kubectl get pods",
        "echo evergreen tran",
    ],
)
def test_placeholders_and_other_programs_are_accepted(command: str) -> None:
    assert [problem(ROOT, program, words, whole=True) for program, words in calls(command)] in ([], [None])


def test_statements_of_a_script_are_separated() -> None:
    script = "# first\nexport A=1\ncurl -s url \\\n  -d '{\"a\": 1}'\nf() {  # a function\n  true\n}\nevergreen up"
    found = [*statements(script)]
    assert [at for at, _ in found] == [1, 2, 4, 7]
    assert [*calls(found[-1][1])] == [("evergreen", ["up"])]


def test_settings_named_in_code_are_in_reference() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    written = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"EVERGREEN_[A-Z0-9]+(?:_[A-Z0-9]+)*", written))
    named |= {f"EVERGREEN_{part.upper()}_PORT" for part in PARTS}
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert len(named) > 30
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_command_of_each_result_can_be_run() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    benchmarks = set(re.findall(r"^BENCHMARKS = (.+)$", makefile, re.MULTILINE)[0].split())
    files = {path.stem for path in (ROOT / "benchmarks").rglob("*.py")}
    targets = {f"make benchmark-{name}" for name in benchmarks & files} | {"make test-kills"}
    results = sorted((ROOT / "benchmarks/results").glob("*.json"))
    commands = {path.name: json.loads(path.read_text(encoding="utf-8"))["command"] for path in results}
    assert len(commands) > 20
    unknown = {name: command for name, command in commands.items() if command.split(" ARGS=")[0] not in targets}
    assert unknown == {"house.json": "python docs/checks/house.py before=FOLDER after=FOLDER --out FILE"}
