"""A package folder as an MLflow model that carries its own code, so that it loads without this repository."""

import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

import absa
from absa.errors import UnavailableError
from absa.inference.package import PACKAGE_FILES, ModelPackage, load_package

REQUIREMENTS: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "tokenizers")
TRAVELLING_CODE: Final = ("__init__.py", "errors.py", "task.py", "inference")
"""What of `absa` goes into the model: nothing but what scores a row."""

_EXAMPLE: Final = {
    "text": ["the route planner is great, but the ticket machine never works"] * 2,
    "aspect": ["route planner", "ticket machine"],
}


@dataclass(frozen=True, kw_only=True)
class LoggedPackage:
    """Place of a logged package. `version` is empty where it was logged without being registered."""

    model_uri: str
    version: str


def log_package(folder: Path, *, name: str = "model", registered_model_name: str | None = None) -> LoggedPackage:
    """Log a package to the active MLflow run, and register it as a new version when a name is given.

    The version has the digest, size and student as tags, and the model card as its description. Tags that need the
    data or the gate are the caller's.

    Args:
        folder: a whole package; files that the package does not need to answer are taken along where they are there.
        name: what the logged model is called in the run.
        registered_model_name: the registered model that gets a new version.

    Raises:
        IntegrityError: the folder holds no whole package.
        UnavailableError: MLflow refuses or is unavailable.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    package = load_package(folder)
    files = {file: str(folder / file) for file in PACKAGE_FILES if (folder / file).is_file()}
    try:
        with tempfile.TemporaryDirectory() as staged:
            logged = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts=files,
                code_paths=[str(_stage_code(Path(staged)))],
                signature=_signature(),
                input_example=_example(),
                pip_requirements=[f"{each}=={installed_version(each)}" for each in REQUIREMENTS],
                registered_model_name=registered_model_name,
            )
        version = str(logged.registered_model_version or "")
        if registered_model_name and version:
            _describe(registered_model_name, version, package)
    except (MlflowException, RequestException) as error:
        raise UnavailableError(f"MLflow could not take the model: {error}") from error
    return LoggedPackage(model_uri=str(logged.model_uri), version=version)


def _stage_code(folder: Path) -> Path:
    """Copy the travelling part of `absa` to a folder, and give the copy's path."""
    source, target = Path(absa.__file__).parent, folder / "absa"
    target.mkdir()
    for name in TRAVELLING_CODE:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, target / name)
    return target


def _describe(model: str, version: str, package: ModelPackage) -> None:
    from mlflow.tracking import MlflowClient

    client: Any = MlflowClient()
    tags = {
        "digest": package.digest,
        "size_mb": f"{package.size_mb:.1f}",
        "student": f"L{package.config.layers}-{package.config.hidden}",
    }
    for key, value in tags.items():
        client.set_model_version_tag(model, version, key, value)
    card = package.folder / "model_card.md"
    if card.is_file():
        client.update_model_version(model, version, description=card.read_text(encoding="utf-8"))


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text"), ColSpec(DataType.string, "aspect")]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "label"),
                ColSpec(DataType.string, "sentiment"),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(DataType.boolean, "truncated"),
            ]
        ),
    )


def _example() -> Any:
    import pandas as pd

    return pd.DataFrame(_EXAMPLE)
