"""Checks of structure and prose: the limits hold, and the checks find what they must."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from docs.checks.house import LIMITS, House, excesses, measure, result_rows, shrunk
from docs.checks.prose import Rule, prose_blocks, word_findings

ROOT = Path(__file__).parents[2]
NO_LIMITS = {
    "fuller_folders": {},
    "import_levels": 99,
    "public_settings": 99,
    "name_clashes": [],
    "file_name_clashes": [],
}


@pytest.fixture(scope="module")
def house() -> House:
    return measure(ROOT)


def planted(root: Path, **files: str) -> House:
    """Measure a small checkout with one module per room, and the files."""
    for room in ("absa", "flows", "serving", "monitoring", "infra"):
        (root / room).mkdir(parents=True)
        (root / room / "__init__.py").write_text("")
    for name, text in ({"tests/test_a": "def test_a() -> None: ...\n"} | files).items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return measure(root)


def test_checkout_stays_within_limits(house: House) -> None:
    assert excesses(json.loads(LIMITS.read_text(encoding="utf-8")), house) == []


def test_excess_of_each_limit_is_reported(house: House) -> None:
    worse = replace(
        house, cycles=[["a.b", "a.c"]], modules={"a": 15}, levels={"flows": 100}, settings={"S": 100},
        clashes={"Job": ["a.py", "b.py"]}, file_clashes={"job.py": ["a/job.py", "b/job.py"]},
    )  # fmt: skip
    reported = "\n".join(excesses(NO_LIMITS, worse))
    for part in ("a.b <> a.c", "a has 15", "levels", "settings", "Job is", "job.py is"):
        assert part in reported


def test_limits_shrink_and_never_grow(house: House) -> None:
    limits = NO_LIMITS | {"fuller_folders": {"gone": 20, "flows/cli": 40}, "import_levels": 2, "name_clashes": ["Gone"]}
    lowered = shrunk(limits, replace(house, modules={"flows/cli": 16}, levels={"flows": 9}))
    assert lowered["fuller_folders"] == {"flows/cli": 16}
    assert lowered["import_levels"] == 2
    assert lowered["name_clashes"] == []


def test_words_are_found_outside_code_only() -> None:
    rule = Rule.read(ROOT / "docs/checks/styles/Evergreen/Terms.yml")
    page = "The plan is in\nforce. Done.\n\n```\nanew\n```\n\nRun `anew` anew, now.\n"
    found = [each for line, block in prose_blocks(page) for each in rule.findings("page.md", line, block)]
    assert [(each.line, each.message) for each in found] == [
        (1, "Use 'active' instead of 'in force'."),
        (8, "Use 'again' instead of 'anew'."),
    ]
    assert found[0].text == "in force|The plan is in\nforce."


def test_docstrings_and_help_must_not_open_with_questions(tmp_path: Path) -> None:
    (tmp_path / "docs/checks/styles").mkdir(parents=True)
    (tmp_path / "docs/checks/styles/Evergreen").symlink_to(ROOT / "docs/checks/styles/Evergreen")
    (tmp_path / "docs/reference").mkdir()
    (tmp_path / "docs/reference/commands.md").write_text(
        "# What\n\n* `--all`: Whether to read all.\n* `--last`: Seconds.\n"
    )
    (tmp_path / "docs/page.md").write_text("# What it is\n")
    (tmp_path / "absa").mkdir()
    (tmp_path / "absa/module.py").write_text('"""A module."""\n\n\ndef f():\n    """Whether it is."""\n')
    found = [(each.path, each.line) for each in word_findings(tmp_path)]
    assert ("docs/reference/commands.md", 3) in found
    assert ("absa/module.py", 5) in found
    assert not any(path == "docs/page.md" for path, _ in found)


def test_planted_cycles_levels_and_clashes_are_measured(tmp_path: Path) -> None:
    found = planted(
        tmp_path,
        **{
            "flows/a": "from flows import b\n\nclass Job: ...\n",
            "flows/b": "from flows import c\n",
            "flows/c": "def f():\n    from flows import b\n",
            "absa/job": '"""What it is."""\nfrom pydantic_settings import BaseSettings\n\n'
            "class Settings(BaseSettings):\n    one: int\n    _two: int\n",
            "infra/job": "class Job: ...\n",
        },
    )
    assert found.cycles == [["flows.b", "flows.c"]]
    assert found.levels["flows"] == 2  # a over b and c, which count as one
    assert found.clashes == {"Job": ["flows/a.py", "infra/job.py"]}
    assert found.file_clashes == {"job.py": ["absa/job.py", "infra/job.py"]}
    assert found.figures()["public_settings"] == 1
    assert (found.docstrings, found.question_docstrings) == (1, 1)


def test_last_checkout_of_result_has_targets(house: House) -> None:
    rows = result_rows({"before": house, "after": replace(house, clashes={"Job": ["a.py", "b.py"]})})
    clashes = [(row.case, row.target, row.met) for row in rows if row.metric == "name_clashes"]
    assert clashes == [("before", None, None), ("after", "<= 0", False)]
