"""`evergreen export`: a version's package as a plain folder, for use without servers."""

import os
import shutil
from pathlib import Path

from absa.errors import NotFoundError, PermanentError
from flows.platform.services import Services


def export_version(services: Services, version: str | None, into: Path) -> str:
    """Put a version's package into a folder, checked against the ledger's digest; gives the version.

    Args:
        version: unset is the champion.
        into: is replaced where it holds a package, or is made.

    Raises:
        NotFoundError: the ledger's head names no such version.
        PermanentError: the folder holds something else.
    """
    head = services.head()
    chosen = version or head.state.champion
    if chosen is None:
        raise PermanentError("there is no champion: name a version")
    if chosen not in head.versions:
        raise NotFoundError(f"the ledger's head names no version {chosen}; it names {', '.join(sorted(head.versions))}")
    if into.exists() and not (into / "model.onnx").is_file():
        raise PermanentError(f"{into} is there and holds no package: name another folder by --into")
    package = services.packages.get(chosen, head.versions[chosen])
    making = into.with_name(f".{into.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(package.folder, making)
    shutil.rmtree(into, ignore_errors=True)
    making.replace(into)
    return chosen
