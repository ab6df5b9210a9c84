"""Infra validation: a package must answer in a fresh process that has only what serving has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from absa.errors import IntegrityError, UnavailableError
from absa.inference.package import package_digest
from absa.packaging.validate import NOT_IN_SERVING, validate_package
from tests.toy_package import build_toy_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build_toy_package(tmp_path / "package")


def test_whole_package_is_ready_in_fresh_process(package: Path) -> None:
    found = validate_package(package, expected_digest=package_digest(package))
    assert found.digest == package_digest(package)
    assert found.rows == 3
    assert 10 < found.memory_mb < 1000


def test_memory_of_asking_process_is_excluded(package: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from absa.packaging.validate import validate_package\n"
        "large = bytes(range(256)) * 3_000_000\n"
        "print(validate_package(Path(sys.argv[1])).memory_mb)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(package)], capture_output=True, text=True, check=True)
    assert 10 < float(said.stdout) < 700


def test_package_with_other_answers_is_refused(package: Path) -> None:
    path = package / "warmup.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["scores"] = rows[1]["scores"][::-1]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(IntegrityError, match=r"warmup\.jsonl row 2"):
        validate_package(package)


def test_a_package_with_another_digest_is_refused(package: Path) -> None:
    with pytest.raises(IntegrityError, match="expected 00"):
        validate_package(package, expected_digest="00")


def test_late_check_says_nothing_about_package(package: Path) -> None:
    with pytest.raises(UnavailableError, match=r"not ready within 0\.01 s; try again"):
        validate_package(package, timeout_s=0.01)


def test_killed_check_says_nothing_about_it(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(UnavailableError, match="killed by signal 9"):
        validate_package(package)


def test_the_fresh_process_cannot_import_the_training_stack() -> None:
    script = (
        "import sys; from absa.packaging.validate import NOT_IN_SERVING, NotInServing\n"
        "sys.meta_path.insert(0, NotInServing())\n"
        "for name in NOT_IN_SERVING:\n"
        "    try: __import__(name)\n"
        "    except ModuleNotFoundError: print(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(NOT_IN_SERVING)


def test_refused_imports_are_those_serving_lacks() -> None:
    """By their import names; the few others that only the platform has are never imported by what a package needs."""
    root = Path(__file__).parents[3]
    serving, everything = (
        {line.partition("==")[0].lower() for line in file.read_text().splitlines() if "==" in line}
        for file in (root / "serving" / "requirements.txt", root / "requirements.txt")
    )
    distributions = {"scikit-learn" if name == "sklearn" else name for name in NOT_IN_SERVING}
    assert not distributions & serving
    assert distributions - {"ray"} <= everything
