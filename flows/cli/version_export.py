"""`evergreen export`: a version as a plain folder, for use without servers: its package, or a form for transformers."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from absa.errors import NotFoundError, PermanentError
from absa.inference.package import ModelPackage
from flows.platform.services import Services


def export_version(services: Services, version: str | None, into: Path) -> str:
    """Copy a version's package to a folder, check it against the ledger's digest, and return the version.

    Args:
        services: ledger and packages.
        version: version to export; None: the champion.
        into: folder to create, or to replace if it holds a package.

    Raises:
        NotFoundError: the ledger's head has no such version.
        PermanentError: the folder holds something else.
    """
    chosen, package = _chosen(services, version)
    if into.exists() and not (into / "model.onnx").is_file():
        raise PermanentError(f"{into} exists and has no package: name another folder with --into")
    _replace(into, lambda making: shutil.copytree(package.folder, making))
    return chosen


def export_for_transformers(services: Services, version: str | None, into: Path) -> str:
    """Write a folder that `transformers.AutoModelForSequenceClassification` loads, and return the version.

    Args:
        services: ledger, packages, and the lake with the weights.
        version: version to export; None: the champion.
        into: folder to create, or to replace if it is such a folder.

    Raises:
        NotFoundError: the ledger's head has no such version, or its fp32 weights were not kept.
        PermanentError: transformers has no form for the model, see `write_transformers_folder`, or the folder holds
            something else.
    """
    from absa.modeling.bases import load_base
    from absa.packaging.transformers_form import write_transformers_folder
    from flows.training.candidate import kept_weights

    chosen, package = _chosen(services, version)
    if into.exists() and not _is_for_transformers(into):
        raise PermanentError(f"{into} exists and has no export: name another folder with --into")
    weights = kept_weights(services, chosen, package)
    if weights is None:
        raise NotFoundError(
            f"the fp32 weights of version {chosen} are not in the lake: export a version whose weights were kept"
        )
    model, _ = load_base(weights, task=package.config.task, dropout=0.0)
    tokenizer = package.tokenizer_path.read_text(encoding="utf-8")
    _replace(
        into,
        lambda making: write_transformers_folder(
            model, tokenizer, making, max_tokens=package.config.max_tokens, temperature=package.temperature
        ),
    )
    return chosen


def _chosen(services: Services, version: str | None) -> tuple[str, ModelPackage]:
    head = services.head()
    chosen = version or head.state.champion
    if chosen is None:
        raise PermanentError("there is no champion: name a version")
    if chosen not in head.versions:
        raise NotFoundError(
            f"version {chosen} is not in the newest ledger record: expected one of {', '.join(sorted(head.versions))}"
        )
    return chosen, services.packages.get(chosen, head.versions[chosen])


def _is_for_transformers(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "architectures" in config


def _replace(into: Path, make: Callable[[Path], object]) -> None:
    """Replace a folder by a new one that is made beside it first."""
    making = into.with_name(f".{into.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    try:
        make(making)
        shutil.rmtree(into, ignore_errors=True)
        making.replace(into)
    finally:
        shutil.rmtree(making, ignore_errors=True)
