"""Packages of the ledger's versions on local disk; packages of earlier releases are copied from MLflow to the lake."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from absa.adapters.package_store import PackageStore
from absa.errors import EvergreenError, NotFoundError
from absa.inference.package import ModelPackage, load_package


class PackageSource(Protocol):
    """Registry that holds packages which an earlier release did not put into the lake."""

    def download(self, version: str, folder: Path) -> Path:
        """Download a version's package below a folder and return the folder of the package.

        Raises:
            NotFoundError: the version does not exist or has no package.
            UnavailableError: the registry is unavailable.
        """


class KeptPackages:
    """Packages of the ledger's versions. A package that only the registry holds is copied into the lake first.

    Args:
        store: packages in the lake.
        models: folder of local copies by digest; created with the first copy.
        registry: holds the packages of earlier releases.
    """

    def __init__(self, store: PackageStore, models: Path, *, registry: PackageSource) -> None:
        self._store, self._models, self._registry = store, models, registry
        self._present: set[str] = set()

    def put(self, folder: Path) -> str:
        """Copy a package into the lake and return its digest; see `PackageStore.put`."""
        return self._store.put(folder)

    def get(self, version: str, digest: str) -> ModelPackage:
        """Return a version's package on local disk, fetched once and checked against its digest.

        Raises:
            NotFoundError: neither the lake nor the registry holds the package.
            UnavailableError: the lake is unavailable; or the lake lacks the package and the registry is unavailable.
            IntegrityError: the files do not have the digest.
        """
        folder = self._models / digest
        try:
            return self._store.get(digest, folder)
        except NotFoundError as absent:
            self._copy(version, digest, absent)
        return self._store.get(digest, folder)

    def copy_missing(self, versions: Mapping[str, str]) -> list[str]:
        """Copy packages that only the registry holds into the lake.

        Args:
            versions: package digest of every version.

        Returns:
            A sentence for each version whose package was copied or could not be copied. A later call tries again.
        """
        if set(versions.values()) <= self._present:
            return []
        self._present = self._store.digests()
        said = []
        for version, digest in versions.items():
            if digest in self._present:
                continue
            try:
                self._copy(version, digest, NotFoundError(f"the lake holds no package {digest}"))
            except (EvergreenError, OSError) as error:
                said.append(f"the package of version {version} is not in the lake: {error}")
            else:
                self._present.add(digest)
                said.append(f"the package of version {version} was copied from MLflow into the lake")
        return said

    def _copy(self, version: str, digest: str, absent: NotFoundError) -> None:
        with tempfile.TemporaryDirectory(prefix="evergreen-package-") as scratch:
            try:
                found = self._registry.download(version, Path(scratch))
            except NotFoundError as error:
                raise NotFoundError(f"{absent}, and it is not in MLflow either: {error}") from None
            load_package(found, expected_digest=digest)
            self._store.put(found)
