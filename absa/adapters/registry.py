"""The registry (MLflow) as flows write it: version tags, and aliases as projections of the ledger's head."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from absa.adapters.registry_reader import HEAD_HASH, HEAD_NUMBER
from absa.errors import EvergreenError, NotFoundError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import CHALLENGER, CHAMPION

MODEL: Final = "absa"


class MlflowRegistry:
    """One registered model in an MLflow server.

    Args:
        tracking_uri: address of the server.
        model: name of the registered model.
    """

    def __init__(self, tracking_uri: str, model: str = MODEL) -> None:
        from mlflow.tracking import MlflowClient

        self.model = model
        self.tracking_uri = tracking_uri
        self._client: Any = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def _call(self, action: Callable[..., Any], *arguments: str) -> Any:
        """Run a client call; vendor exceptions become ours."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        try:
            return action(*arguments)
        except EvergreenError:
            raise
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
        found = self._call(self._client.get_model_version, self.model, version)
        return dict(found.tags)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._call(self._client.set_model_version_tag, self.model, version, key, value)

    def versions(self) -> list[str]:
        """Every version, oldest first; empty where the model was never registered."""
        found = self._call(self._client.search_model_versions, f"name='{self.model}'")
        return sorted((str(item.version) for item in found), key=int)

    def run_id(self, version: str) -> str:
        """The MLflow run that made a version."""
        return str(self._call(self._client.get_model_version, self.model, version).run_id)

    def aliases(self) -> dict[str, str]:
        """Alias to version, as MLflow has them now."""
        try:
            model = self._call(self._client.get_registered_model, self.model)
        except NotFoundError:
            return {}
        return {alias: str(version) for alias, version in dict(model.aliases).items()}

    def anchor(self) -> tuple[int, str] | None:
        """Number and hash of the ledger's head when the aliases were last set, or None before that."""
        try:
            tags = self._call(self._client.get_registered_model, self.model).tags
        except NotFoundError:
            return None
        return (int(tags[HEAD_NUMBER]), tags[HEAD_HASH]) if HEAD_NUMBER in tags and HEAD_HASH in tags else None

    def project(self, head: LedgerRecord) -> list[str]:
        """Set the aliases champion and challenger as the head says. Idempotent; anyone may call it.

        Returns:
            A sentence for each alias that was moved by hand since the last projection; it has been put back. One where
            the ledger is not the one that was projected before: the tags are left, so that `verify` goes on saying it.
        """
        anchor = self.anchor()
        if anchor is not None and anchor[0] > head.number:
            return []  # someone projected a newer head already
        current = self.aliases()
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
            if wanted is None:
                self._call(self._client.delete_registered_model_alias, self.model, alias)
            else:
                self._call(self._client.set_registered_model_alias, self.model, alias, wanted)
        if anchor is not None and _rewritten(head, anchor):
            return [*by_hand, f"ledger record {anchor[0]} is not what it was: see `evergreen ledger verify`"]
        if anchor != (head.number, head.hash):
            for key, value in (
                (HEAD_HASH, head.hash),
                (HEAD_NUMBER, str(head.number)),
            ):  # in this order: see _rewritten
                self._call(self._client.set_registered_model_tag, self.model, key, value)
        return by_hand


def _rewritten(head: LedgerRecord, anchor: tuple[int, str]) -> bool:
    """Whether the record that the registry remembers is another one now.

    A projection that was killed half-way leaves the head's hash beside the number before it; that is none.
    """
    number, remembered = anchor
    if number == head.number:
        return remembered != head.hash
    return number + 1 == head.number and remembered not in {head.previous_hash, head.hash}
