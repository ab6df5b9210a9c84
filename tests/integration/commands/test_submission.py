"""`make submission`: the assignment's folder, which works where nothing of this repository is installed."""

import csv
import re
import subprocess
import venv
import zipfile
from importlib.metadata import distribution, files, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from absa.errors import IntegrityError, NotFoundError, PermanentError
from absa.src.papers import render
from absa.src.submission import PAPERS, build
from tests.toy_package import build_toy_package

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [("the app is great", "app"), ("terrible service, but a good tool", "service")]


@pytest.fixture(scope="module")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "aspect"), *TEXTS])
    return path


@pytest.fixture(scope="module")
def submission(test_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    return build(model=build_toy_package(folder / "package"), test_file=test_file, into=folder / "handed in")


def test_it_holds_exactly_what_the_assignment_asks_for(submission: Path) -> None:
    papers = [f"{name}.{ending}" for name in PAPERS for ending in ("docx", "pdf")]
    assert sorted(path.name for path in submission.iterdir()) == sorted(
        ["README.md", "absa", "requirements.txt", *papers]
    )
    parts = sorted(str(path.relative_to(submission / "absa")) for path in (submission / "absa").glob("*"))
    assert parts == ["data", "models", "notebooks", "src"]
    assert (submission / "absa" / "models" / "champion" / "model.onnx").is_file()
    assert list((submission / "absa" / "notebooks").glob("*.ipynb"))
    with (submission / "absa" / "data" / "results" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["text", "aspect", "label"]
    assert [tuple(row[:2]) for row in rows[1:]] == TEXTS


def test_its_papers_have_their_words_and_pictures(submission: Path) -> None:
    for name in PAPERS:
        source = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert (submission / f"{name}.pdf").read_bytes().startswith(b"%PDF-")
        with zipfile.ZipFile(submission / f"{name}.docx") as document:
            assert len(document.read("word/document.xml")) > 10_000
            pictures = [each for each in document.namelist() if each.startswith("word/media/")]
        assert len(pictures) == source.count("![") + source.count("```mermaid"), name


def installed_by(requirements: Path) -> set[str]:
    """Return the names of the packages that an installation of exact pins brings, each at the version of its pin."""
    wanted, found = requirements.read_text(encoding="utf-8").split(), set[str]()
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert requirement.specifier.contains(version(requirement.name)), requirement
            if requirement.name not in found:
                found.add(requirement.name)
                wanted += requires(requirement.name) or []
    return found


def test_script_runs_without_arguments_in_fresh_environment(submission: Path, tmp_path: Path) -> None:
    """The environment has links to what pip would install, and nothing else of this one: no index has to answer."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for name in installed_by(submission / "requirements.txt"):
        for top in {file.parts[0] for file in files(name) or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():  # several packages share one where it is a namespace
                (packages / top).symlink_to(distribution(name).locate_file(top))
    python = tmp_path / "venv" / "bin" / "python"
    result = submission / "absa" / "data" / "results" / "test.csv"
    first = result.read_bytes()
    result.unlink()
    done = subprocess.run(
        [python, "absa/src/evaluation.py"], cwd=submission, env={"PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 rows labelled" in done.stdout
    assert result.read_bytes() == first


def test_nothing_is_left_where_the_model_is_missing(test_file: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="package"):
        build(model=tmp_path, test_file=test_file, into=tmp_path / "handed in")
    assert not (tmp_path / "handed in").exists()
    with pytest.raises(NotFoundError, match="name a CSV"):
        build(model=tmp_path, test_file=tmp_path / "none.csv", into=tmp_path / "handed in")


@pytest.mark.parametrize("held", ["notes.txt", "absa/src/evaluation.py", "absa/src/absa/__init__.py .git/HEAD"])
def test_folder_with_foreign_files_is_kept(held: str, test_file: Path, tmp_path: Path) -> None:
    into, package = tmp_path / "into", build_toy_package(tmp_path / "package")
    for name in held.split():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).touch()
    with pytest.raises(PermanentError, match="holds other files"):
        build(model=package, test_file=test_file, into=into, papers=False)
    assert all((into / name).is_file() for name in held.split())
    assert {path.name for path in tmp_path.iterdir()} == {"into", "package"}


def test_empty_folder_and_earlier_submission_are_replaced(test_file: Path, tmp_path: Path) -> None:
    into, package = tmp_path / "into", build_toy_package(tmp_path / "package")
    into.mkdir()
    build(model=package, test_file=test_file, into=into, papers=False)
    (into / "old.pdf").touch()
    build(model=package, test_file=test_file, into=into, papers=False)
    assert (into / "README.md").is_file()
    assert not (into / "old.pdf").exists()


def test_paper_keeps_far_links_and_drops_near_ones(tmp_path: Path) -> None:
    paper, diagram = tmp_path / "paper.md", tmp_path / "pictures/paper-1.svg"
    diagram.parent.mkdir()
    diagram.write_bytes((ROOT / "docs/pictures/deployment_pipeline-1.svg").read_bytes())
    paper.write_text(
        "# Words\n\n```mermaid\nflowchart LR\n```\n\nSee [far](https://example.com/a) and [near](other.md).\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    docx, pdf = render(paper, tmp_path)
    with zipfile.ZipFile(docx) as document:
        text = document.read("word/document.xml").decode()
        links = document.read("word/_rels/document.xml.rels").decode()
    assert "near" in text
    assert "flowchart" not in text
    assert "https://example.com/a" in links
    assert "other.md" not in links
    assert pdf.stat().st_size > 1000


@pytest.mark.parametrize(
    ("text", "missing"), [("![x](nowhere.svg)\n", "nowhere.svg"), ("```mermaid\na-->b\n```\n", "pictures/paper-1.svg")]
)
def test_a_missing_picture_is_named(text: str, missing: str, tmp_path: Path) -> None:
    paper = tmp_path / "paper.md"
    paper.write_text(text)
    with pytest.raises(NotFoundError, match=re.escape(missing)):
        render(paper, tmp_path)
