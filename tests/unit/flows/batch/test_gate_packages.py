"""Tests of the gate between two packages: rows of a snapshot or a file, verdict, exit code and page."""

import csv
from pathlib import Path

import pytest

from absa.data.ingest import ingest
from absa.errors import InvalidDataError, PermanentError
from absa.ledger.lifecycle import crowned
from absa.policies import GatePolicy
from absa.task import TaskSpec
from flows.batch.gate_packages import GATE_CODES, gate_packages
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeRegistry
from tests.toy_package import WORDS, build_toy_package

PHRASES = ("terrible", "a tool", "great")
DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
POLICY = GatePolicy(min_recent_rows=20, min_rows=20, behaviour_cases=12, behaviour_margin=1.0, max_ece=1.0)


def write_rows(file: Path, count: int = 300) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out).writerow
        write(("text", "aspect", "label"))
        for number in range(count):
            words = " ".join(DIGITS[int(digit)] for digit in str(number))
            write((f"the app is {PHRASES[number % 3]} {words}", "app", number % 3))
    return file


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("toys")
    return {
        "good": build_toy_package(root / "good"),
        "same": build_toy_package(root / "same", seed=3),
        "poor": build_toy_package(root / "poor", forgets=WORDS),
    }


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return build_services(Settings(home=tmp_path / "home", gate=POLICY), environment={}, registry=FakeRegistry())


@pytest.mark.parametrize(
    ("candidate", "champion", "verdict", "code"),
    [("good", "poor", "PROMOTE", 0), ("same", "good", "HOLD", 4), ("poor", "good", "REJECT", 5)],
)
def test_file_decides_between_folders(
    services: Services, toys: dict[str, Path], tmp_path: Path, candidate: str, champion: str, verdict: str, code: int
) -> None:
    data = write_rows(tmp_path / "rows.csv")
    pair = gate_packages(services, str(toys[candidate]), str(toys[champion]), data=data)
    assert (pair.decision.verdict, pair.code) == (verdict, code)
    assert GATE_CODES[verdict] == code
    assert not services.home.root.exists()


def test_snapshot_decides_between_versions(services: Services, toys: dict[str, Path], tmp_path: Path) -> None:
    ingest(services.lake, [str(write_rows(tmp_path / "rows.csv", 600))], processes=1)
    digests = {version: services.packages.put(toys[name]) for version, name in (("1", "poor"), ("2", "good"))}
    services.ledger.append(expected=0, actor="t", action="promote", reason="r", state=crowned("1"), versions=digests)
    pair = gate_packages(services, "2", "1")
    assert pair.decision.verdict == "PROMOTE"
    assert "test rows of snapshot" in pair.rows_from
    assert len(services.ledger.follow()) == 1


def test_page_names_verdict_figures_and_checks(services: Services, toys: dict[str, Path], tmp_path: Path) -> None:
    pair = gate_packages(services, str(toys["good"]), str(toys["poor"]), data=write_rows(tmp_path / "a_|_b.csv"))
    page = pair.markdown()
    assert page.startswith("## PROMOTE: candidate ")
    assert r"a\_\|\_b" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.replace(r"\|", "").count("|") in (4, 6) for line in rows)
    assert any(line.startswith("| all | 300 | 1.000 |") for line in rows)
    assert "| better on recent rows | passed |" in page
    assert next(pair.lines()).startswith("PROMOTE: candidate ")
    assert pair.to_json()["verdict"] == "PROMOTE"


def test_unusable_request_names_the_remedy(services: Services, toys: dict[str, Path], tmp_path: Path) -> None:
    good = str(toys["good"])
    with pytest.raises(PermanentError, match="--data FILE"):
        gate_packages(services, good, good)
    with pytest.raises(InvalidDataError, match="no file"):
        gate_packages(services, good, good, data=tmp_path / "none.csv")
    with pytest.raises(PermanentError, match="9 is neither a package folder nor a version"):
        gate_packages(services, "9", good)
    tickets = build_toy_package(
        tmp_path / "tickets", task=TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
    )
    with pytest.raises(PermanentError, match="different tasks"):
        gate_packages(services, str(tickets), good, data=write_rows(tmp_path / "rows.csv"))
