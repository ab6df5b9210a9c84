"""A small client of the router: one prediction, and whether it follows a version."""

import os
from typing import Any

import httpx
from pydantic import SecretStr

from absa.errors import PermanentError, UnavailableError
from absa.proxies import require_route


class RouterClient:
    """Talks to one router.

    Args:
        url: its address.
        predict_key: what a prediction needs where the router asks for one.
        timeout_s: bound of each request, in seconds.

    Raises:
        UnavailableError: the address needs a proxy that cannot be used.
    """

    def __init__(self, url: str, *, predict_key: SecretStr | None = None, timeout_s: float = 10.0) -> None:
        self._url = url
        require_route(url, os.environ)
        headers = {"X-API-Key": predict_key.get_secret_value()} if predict_key else {}
        self._client = httpx.Client(base_url=url, timeout=timeout_s, headers=headers)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"the router at {self._url} is unavailable ({type(error).__name__}): run `evergreen serve`"
            ) from None
        if response.status_code >= 400:
            try:
                detail = response.json().get("detail") or response.reason_phrase
            except ValueError:
                detail = response.reason_phrase
            kind = UnavailableError if response.status_code in {429, 503} else PermanentError
            raise kind(f"the router answered {response.status_code}: {detail}")
        return response.json()

    def predict(
        self, text: str, aspect: str | None = None, *, topic: str | None = None, unit_id: str | None = None
    ) -> dict[str, Any]:
        """Return the answer to one text, with an aspect or a topic where the router's task takes one.

        Raises:
            PermanentError: the request is not valid.
            UnavailableError: the router is down, busy or not ready.
        """
        given = {"aspect": aspect, "topic": topic, "unit_id": unit_id}
        body = {"text": text, **{name: value for name, value in given.items() if value is not None}}
        answer: dict[str, Any] = self._call("POST", "/v1/predict", json=body)
        return answer

    def is_ready(self) -> bool:
        """Return True if the router serves a model."""
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def revision(self) -> int:
        """Return the ledger record that the router follows.

        Raises:
            UnavailableError: the router is unavailable.
        """
        return int(self._call("GET", "/v1/traffic")["revision"])
