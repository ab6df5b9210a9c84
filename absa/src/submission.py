"""Build the folder that the ABSA assignment requires: `python -m absa.src.submission` or `make submission`.

The folder has absa/src (evaluation.py and all modules that it needs), absa/models/champion, absa/notebooks,
absa/data/results/test.csv, requirements.txt, and both papers as .docx and PDF.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from absa.errors import EvergreenError, InvalidDataError, NotFoundError, PermanentError
from absa.sinks import log_line

_ROOT: Final = Path(__file__).resolve().parents[2]
PAPERS: Final = ("training_methodology", "deployment_pipeline")
INFERENCE_CODE: Final = (
    "__init__.py", "config_file.py", "errors.py", "sinks.py", "task.py", "proxies.py", "records/__init__.py",
    "records/files.py", "records/identifiers.py", "records/lake.py", "records/rows.py", "records/schema.py",
    "records/tables.py", "inference", "data/__init__.py", "data/files", "data/mapping.py", "data/key_columns.py",
    "data/normalise.py", "data/read.py",
)  # fmt: skip
INFERENCE_REQUIREMENTS: Final = ("numpy", "onnxruntime", "polars", "pyarrow", "scikit-learn", "tokenizers")
_README: Final = """# Aspect-based sentiment

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python absa/src/evaluation.py              labels absa/data/test.csv into absa/data/results/test.csv
    .venv/bin/python absa/src/evaluation.py rows.csv     labels another file, and measures it where it has labels

absa/models/champion is the model, absa/notebooks how the data were probed and where the model errs; the two papers are
training_methodology and deployment_pipeline, each as .docx and PDF.
"""


def build(*, model: Path, test_file: Path, into: Path, papers: bool = True) -> Path:
    """Build the folder again; it is complete or absent.

    Args:
        model: package folder.
        test_file: CSV with text and aspect; the model's labels are written to absa/data/results/test.csv.
        into: folder that is new, empty, or an earlier submission, which is replaced.
        papers: True: render the papers, which needs pandoc and Typst.

    Raises:
        EvergreenError: an input is missing or cannot be used, or `into` has other content.
    """
    from absa.inference.package import load_package
    from absa.src.papers import render

    if into.exists() and not _replaceable(into):
        raise PermanentError(f"{into} holds other files; name a new folder or an earlier submission by --into")
    if not test_file.is_file():
        raise NotFoundError(f"there is no file {test_file}; name a CSV with text and aspect by --test")
    package = load_package(model)
    making = into.with_name(f".{into.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    try:
        copy_code(making / "absa" / "src")
        shutil.copytree(package.folder, making / "absa" / "models" / "champion")
        shutil.copytree(
            _ROOT / "absa" / "notebooks", making / "absa" / "notebooks", ignore=shutil.ignore_patterns("*.py", ".*")
        )
        (making / "absa" / "data").mkdir()
        shutil.copy2(test_file, making / "absa" / "data" / "test.csv")
        (making / "requirements.txt").write_text(requirements(_ROOT / "requirements.txt"), encoding="utf-8")
        (making / "README.md").write_text(_README, encoding="utf-8")
        label(making)
        for name in PAPERS if papers else ():
            render(_ROOT / "docs" / f"{name}.md", making)
        shutil.rmtree(into, ignore_errors=True)
        into.parent.mkdir(parents=True, exist_ok=True)
        making.replace(into)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return into


def _replaceable(into: Path) -> bool:
    """Return True for an empty folder or an earlier submission; a checkout has no `absa` beside evaluation.py."""
    if not into.is_dir():
        return False
    earlier = (into / "absa" / "src" / "absa").is_dir() and not (into / ".git").exists()
    return earlier or not any(into.iterdir())


def copy_code(src: Path) -> None:
    """Copy evaluation.py and the modules of `absa` that it imports."""
    src.mkdir(parents=True)
    shutil.copy2(_ROOT / "absa" / "src" / "evaluation.py", src)
    for name in INFERENCE_CODE:
        source, target = _ROOT / "absa" / name, src / "absa" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


def requirements(pins: Path) -> str:
    """Return the requirements of inference with the versions that the platform pins.

    Raises:
        PermanentError: a requirement has no pinned version.
    """
    text = pins.read_text(encoding="utf-8")
    found = [re.search(rf"^{name}==\S+", text, re.MULTILINE) for name in INFERENCE_REQUIREMENTS]
    if missing := [name for name, match in zip(INFERENCE_REQUIREMENTS, found, strict=True) if match is None]:
        raise PermanentError(f"{pins.name} has no pin of {', '.join(missing)}; run `make pins`")
    return "".join(f"{match[0]}\n" for match in found if match)


def label(folder: Path) -> None:
    """Run evaluation.py without arguments in the folder, as a reader of the submission does.

    Raises:
        InvalidDataError: evaluation.py could not label the test file.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-B", str(folder / "absa" / "src" / "evaluation.py")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise InvalidDataError(done.stderr.strip().removeprefix("error: ") or "evaluation.py failed")


def main(arguments: list[str] | None = None) -> int:
    """Build the folder; return the exit code: 0, or 1 after a sentence on standard error."""
    from absa.src.evaluation import DEFAULT_MODEL, model_folder

    parser = argparse.ArgumentParser(prog="python -m absa.src.submission", description=__doc__)
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="package folder or models:/absa@champion")
    parser.add_argument(
        "--test", type=Path, default=_ROOT / "absa" / "data" / "sample" / "assignment.csv", help="CSV to label"
    )
    parser.add_argument("--into", type=Path, default=_ROOT / "build" / "submission", help="a new or earlier submission")
    chosen = parser.parse_args(arguments)
    try:
        folder = build(model=model_folder(chosen.model), test_file=chosen.test, into=chosen.into.absolute())
    except EvergreenError as error:
        print(log_line(f"error: {error}"), file=sys.stderr)
        return 1
    print(log_line(f"the submission is in {folder}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
