"""Pins follow pyproject.toml: it gives uv.lock, and uv.lock gives the requirements files."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from docs.checks.pins import FILES, OF_TORCH, lines, packages

ROOT = Path(__file__).parents[2]
REMEDY = "run `make pins`"


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def words(requirement: dict[str, Any]) -> tuple[str, frozenset[str], str]:
    """Name, extras and versions of a requirement in uv.lock."""
    return requirement["name"], frozenset(requirement.get("extras", ())), requirement.get("specifier", "")


def parsed(text: str) -> tuple[str, frozenset[str], str]:
    """The same of a requirement in pyproject.toml."""
    found = Requirement(text)
    name = re.sub(r"[-_.]+", "-", found.name).lower()
    return name, frozenset(found.extras), ",".join(sorted(str(found.specifier).split(","), reverse=True))


def test_lock_is_of_this_pyproject(lock: dict[str, Any], project: dict[str, Any]) -> None:
    (own,) = (entry for entry in lock["package"] if entry["name"] == "evergreen")
    assert own["version"] == project["project"]["version"], REMEDY
    locked: dict[str, set[Any]] = {}
    for each in own["metadata"]["requires-dist"]:
        extra = re.search(r"extra == '(\w+)'", each.get("marker", ""))
        locked.setdefault(extra[1] if extra else "", set()).add(words(each))
    stated = {"": project["project"]["dependencies"], **project["project"]["optional-dependencies"]}
    assert locked == {extra: {parsed(text) for text in texts} for extra, texts in stated.items()}, REMEDY
    groups = {name: {words(each) for each in texts} for name, texts in own["metadata"]["requires-dev"].items()}
    assert groups == {name: {parsed(text) for text in texts} for name, texts in project["dependency-groups"].items()}, (
        REMEDY
    )


@pytest.mark.parametrize("name", FILES)
def test_requirements_file_has_versions_of_lock(name: str, lock: dict[str, Any]) -> None:
    versions = {(entry["name"], entry.get("version")) for entry in lock["package"]}
    pins = [Requirement(line) for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    assert {(pin.name, str(pin.specifier).removeprefix("==")) for pin in pins} <= versions, REMEDY
    assert {pin.name for pin in pins} == packages(lock, FILES[name]), REMEDY


def test_lock_and_pins_name_public_index_only(lock: dict[str, Any]) -> None:
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[^/\"]+", text)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert not [
        line for name in FILES for line in (ROOT / name).read_text().splitlines() if "+" in line or "://" in line
    ]


def test_plain_installation_has_every_part(project: dict[str, Any]) -> None:
    (own,) = (Requirement(text) for text in project["project"]["dependencies"])
    assert (own.name, own.extras) == ("evergreen", {"serve", "train", "platform"})
    assert {"ray", "aws", "postgres", "excel"} | own.extras == set(project["project"]["optional-dependencies"])


def test_router_part_has_no_training_packages(lock: dict[str, Any]) -> None:
    found = packages(lock, FILES["serving/requirements.txt"])
    assert found.isdisjoint({"torch", "transformers", "mlflow", "prefect", "evidently", "polars", "evergreen"})
    assert {"fastapi", "onnxruntime", "pydantic-core"} <= found  # the last is a dependency of one


def fits(tag: Tag, minor: int, platform: str) -> bool:
    """True if CPython 3.minor on a platform takes wheels of a tag; as pip does, newer ones take those of abi3."""
    built = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    abi = int(built[1]) <= minor if built and tag.abi == "abi3" else tag.abi in (f"cp3{minor}", "none")
    python = abi and (tag.interpreter in ("py3", f"py3{minor}", f"cp3{minor}") or tag.abi == "abi3")
    return python and re.fullmatch(rf"any|{platform}", tag.platform) is not None


@pytest.mark.parametrize("minor", [11, 12, 13])
@pytest.mark.parametrize("platform", [r"manylinux.*x86_64", r"manylinux.*aarch64", r"macosx.*(arm64|universal2)"])
def test_every_pin_has_wheel_for_machine(minor: int, platform: str, lock: dict[str, Any]) -> None:
    names = packages(lock, FILES["requirements.txt"]) | packages(lock, FILES["requirements-ray.txt"])
    without = []
    for entry in (each for each in lock["package"] if each["name"] in names):
        files = [wheel["url"].rpartition("/")[2] for wheel in entry.get("wheels", ())]
        if not any(fits(tag, minor, platform) for file in files for tag in parse_wheel_filename(file)[3]):
            without.append(entry["name"])
    assert without == []


def test_wheels_of_other_machines_do_not_fit() -> None:
    (musl,) = parse_wheel_filename("a-1-cp312-cp312-musllinux_1_2_x86_64.whl")[3]
    (stable,) = parse_wheel_filename("a-1-cp311-abi3-manylinux_2_28_x86_64.whl")[3]
    assert not fits(musl, 12, "manylinux.*x86_64")
    assert [fits(stable, minor, "manylinux.*x86_64") for minor in (10, 11, 13)] == [False, True, True]


def test_libraries_of_torch_builds_are_unpinned(lock: dict[str, Any]) -> None:
    known = {entry["name"] for entry in lock["package"] if OF_TORCH.match(entry["name"])}
    assert known
    assert not known & packages(lock, FILES["requirements.txt"])


def test_marker_stays_where_machines_differ() -> None:
    exported = ["a==1", "b==1 ; sys_platform == 'win32'", "c==1 ; python_full_version < '3.13'", "d==1"]
    exported += ["e==1 ; sys_platform != 'win32'"]
    assert lines(exported, {"a", "b", "c", "e"}, "3.11.0") == ["a==1", exported[2], "e==1"]
    assert lines(exported, {"c"}, "3.13.0") == []


@pytest.mark.parametrize(("value", "passed"), [(None, "auto"), ("cpu", "cpu"), ("", "unset")])
def test_make_passes_torch_backend_to_uv(value: str | None, passed: str) -> None:
    others = {name: each for name, each in os.environ.items() if name not in {"UV_TORCH_BACKEND", "MAKEFLAGS"}}
    environment = others if value is None else {**others, "UV_TORCH_BACKEND": value}
    show = 'show: ; @echo "$${UV_TORCH_BACKEND-unset}"'
    command = ("make", "--no-print-directory", f"--eval={show}", "show")
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown == f"{passed}\n"
