"""Where model files come from: an MLflow registry over REST, or a folder with one package a version."""

import shutil
from pathlib import Path
from typing import Final, Protocol

from absa.errors import NotFoundError, PermanentError, UnavailableError

_FOLDER: Final = "folder:"


class ModelSource(Protocol):
    """Hands out the package files of a version."""

    def fetch(self, version: str, folder: Path) -> None:
        """Put the files into a folder that exists; digests are the caller's to check.

        Raises:
            NotFoundError: there is no such version.
            UnavailableError: the source does not answer.
        """


class FolderRegistry:
    """Packages in `<root>/<version>/`: for a router without MLflow."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, version: str, folder: Path) -> None:
        """Copy the files of a version.

        Raises:
            NotFoundError: there is no such version.
            UnavailableError: the files cannot be read.
        """
        source = self._root / version
        if not version or Path(version).name != version or not source.is_dir():
            raise NotFoundError(f"the folder {self._root} has no version {version}")
        try:
            for file in source.iterdir():
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise UnavailableError(f"version {version} in {self._root} cannot be read: {error.strerror}") from error


def open_source(uri: str) -> ModelSource:
    """The source at `folder:PATH` or at an MLflow server's http(s) address.

    Raises:
        PermanentError: another kind of address.
    """
    if uri.startswith(_FOLDER):
        return FolderRegistry(Path(uri.removeprefix(_FOLDER)))
    if uri.startswith(("http://", "https://")):
        from absa.adapters.registry_reader import RegistryReader

        return RegistryReader(uri, model="absa")
    raise PermanentError(f"model files come from folder:PATH or an MLflow server's http(s) address, got {uri!r}")
