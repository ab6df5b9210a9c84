"""The registry (MLflow) as flows write it: version tags, and aliases as projections of the ledger's head."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from absa.errors import NotFoundError, UnavailableError
from absa.inference.package import CONFIG_FILE
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import CHALLENGER, CHAMPION
from absa.proxies import is_local, require_route

MODEL: Final = "absa"
HEAD_NUMBER: Final = "ledger_number"  # tags of the registered model: the ledger's head when aliases were last set
HEAD_HASH: Final = "ledger_hash"
_ARTIFACTS: Final = "artifacts"  # where an MLflow pyfunc keeps the files that were handed to it
_CONNECT_S: Final = 5.0


class MlflowRegistry:
    """One registered model in an MLflow server.

    Args:
        tracking_uri: address of the server.
        model: name of the registered model.
        environment: names the proxies of this process.
    """

    def __init__(self, tracking_uri: str, model: str = MODEL, *, environment: Mapping[str, str] = os.environ) -> None:
        self.model = model
        self.tracking_uri = tracking_uri
        self._environment = environment
        self._made: Any = None

    def _client(self) -> Any:
        """Return MLflow's client, made on the first call: its import takes seconds."""
        if self._made is None:
            require_route(self.tracking_uri, self._environment)
            from mlflow.tracking import MlflowClient

            self._made = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        return self._made

    def _require_server(self) -> None:
        """Raise UnavailableError at once where nothing listens: MLflow's client would try for many seconds."""
        parts = urlsplit(self.tracking_uri)
        if not is_local(self.tracking_uri) or parts.hostname is None or parts.port is None:
            return
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise UnavailableError(f"MLflow at {self.tracking_uri} is unavailable: {error.strerror}") from None

    def _read(self, action: str, *arguments: str) -> Any:
        self._require_server()
        return self._call(action, *arguments)

    def _call(self, action: str, *arguments: str) -> Any:
        """Call a method of the client; vendor exceptions become ours."""
        with self._translated():
            return getattr(self._client(), action)(*arguments)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            yield
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise NotFoundError(f"MLflow at {self.tracking_uri}: {error.message}") from error
            raise UnavailableError(f"MLflow at {self.tracking_uri} answered: {error.message}") from error
        except RequestException as error:
            raise UnavailableError(f"MLflow at {self.tracking_uri} is unavailable") from error

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version.

        Raises:
            NotFoundError: there is no such version.
            UnavailableError: MLflow does not answer.
        """
        found = self._read("get_model_version", self.model, version)
        return dict(found.tags)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._call("set_model_version_tag", self.model, version, key, value)

    def versions(self) -> list[str]:
        """Every version, oldest first; empty where the model was never registered."""
        found = self._read("search_model_versions", f"name='{self.model}'")
        return sorted((str(item.version) for item in found), key=int)

    def download(self, version: str, folder: Path) -> Path:
        """Download a version's package below a folder and return its own folder.

        Raises:
            NotFoundError: there is no such version, or MLflow's artifacts lack its package.
            UnavailableError: MLflow is unavailable.
        """
        source = self._read("get_model_version_download_uri", self.model, version)
        from mlflow.artifacts import download_artifacts
        from requests.exceptions import RequestException

        found = ""
        with self._translated():
            try:
                found = download_artifacts(
                    artifact_uri=f"{source}/{_ARTIFACTS}", dst_path=str(folder), tracking_uri=self.tracking_uri
                )
            except RequestException:
                raise
            except OSError:  # what a folder of artifacts raises for a missing one
                pass
        if not Path(found, CONFIG_FILE).is_file():
            raise NotFoundError(f"MLflow at {self.tracking_uri} has no package of version {version}")
        return Path(found)

    def aliases(self) -> dict[str, str]:
        """Alias to version, as MLflow has them now."""
        try:
            model = self._read("get_registered_model", self.model)
        except NotFoundError:
            return {}
        return {alias: str(version) for alias, version in dict(model.aliases).items()}

    def anchor(self) -> tuple[int, str] | None:
        """Number and hash of the ledger's head when the aliases were last set, or None before that."""
        try:
            tags = self._read("get_registered_model", self.model).tags
        except NotFoundError:
            return None
        return (int(tags[HEAD_NUMBER]), tags[HEAD_HASH]) if HEAD_NUMBER in tags and HEAD_HASH in tags else None

    def project(self, head: LedgerRecord) -> list[str]:
        """Set the aliases champion and challenger as in the head; see `project_head`."""
        return project_head(self, head)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set an alias to a version; None removes it."""
        if version is None:
            self._call("delete_registered_model_alias", self.model, alias)
        else:
            self._call("set_registered_model_alias", self.model, alias, version)

    def set_anchor(self, number: int, digest: str) -> None:
        """Note number and hash of the projected head, the number last: see `_rewritten`."""
        self._call("set_registered_model_tag", self.model, HEAD_HASH, digest)
        self._call("set_registered_model_tag", self.model, HEAD_NUMBER, str(number))


class Aliases(Protocol):
    """Aliases of a registered model, and the ledger's head that they were last set from."""

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""

    def anchor(self) -> tuple[int, str] | None:
        """Return number and hash of the last projected head."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set an alias; None removes it."""

    def set_anchor(self, number: int, digest: str) -> None:
        """Note the projected head."""


def project_head(registry: Aliases, head: LedgerRecord) -> list[str]:
    """Set the aliases champion and challenger as in the ledger's head. Idempotent; any process may call it.

    Returns:
        A sentence for each alias that was moved by hand since the last projection; it has been put back. One where
        the ledger is not the one that was projected before: the anchor is left, so that `verify` keeps reporting it.
    """
    anchor = registry.anchor()
    if anchor is not None and anchor[0] > head.number:
        return []  # a newer head was projected already
    current = registry.aliases()
    by_hand: list[str] = []
    for alias, wanted in ((CHAMPION, head.state.champion), (CHALLENGER, head.state.challenger)):
        found = current.get(alias)
        if found == wanted:
            continue
        if anchor is not None and anchor[0] == head.number:
            by_hand.append(
                f"alias {alias} stood at {found or 'nothing'} in MLflow, the ledger says {wanted or 'nothing'}: "
                "put back"
            )
        registry.set_alias(alias, wanted)
    if anchor is not None and _rewritten(head, anchor):
        return [*by_hand, f"ledger record {anchor[0]} is not what it was: see `evergreen ledger verify`"]
    if anchor != (head.number, head.hash):
        registry.set_anchor(head.number, head.hash)
    return by_hand


def _rewritten(head: LedgerRecord, anchor: tuple[int, str]) -> bool:
    """Return True if the record that the registry remembers is another one now.

    A projection that was killed half-way leaves the head's hash beside the number before it; that is none.
    """
    number, remembered = anchor
    if number == head.number:
        return remembered != head.hash
    return number + 1 == head.number and remembered not in {head.previous_hash, head.hash}
