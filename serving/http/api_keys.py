"""Keys of clients: the admin token, the optional predict key, and feedback keys that name a source."""

import hmac
from collections.abc import Iterable, Mapping

from absa.router_settings import FeedbackSource, RouterSettings
from serving.problems import Problem

_BEARER = b"bearer "


class Keys:
    """Checks keys in constant time. A key is sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        admin_token: required to change the plan over HTTP; None: it cannot be changed over HTTP.
        predict_key: required for predictions; None: predictions need no key.
        feedback: sources by key.
    """

    def __init__(
        self, *, admin_token: str | None, predict_key: str | None, feedback: Mapping[str, FeedbackSource]
    ) -> None:
        self._admin_token = admin_token.encode() if admin_token else None
        self.predict_key = predict_key.encode() if predict_key else None
        self._feedback = [(key.encode(), source) for key, source in feedback.items()]

    @classmethod
    def of(cls, settings: RouterSettings) -> "Keys":
        """Return the keys of the settings."""
        return cls(
            admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
            predict_key=settings.predict_key.get_secret_value() if settings.predict_key else None,
            feedback={key.get_secret_value(): source for key, source in settings.feedback_keys.items()},
        )

    def check_admin(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the admin token.

        Raises:
            Problem: 401 if it is missing, 403 if it is wrong or the router has none.
        """
        if self._admin_token is None:
            raise Problem(
                403,
                "no-admin-token",
                "this route is closed, because the router has no EVERGREEN_ADMIN_TOKEN; set it to open the route",
            )
        given = _given(headers)
        if given is None:
            raise _missing("the admin token")
        if not hmac.compare_digest(given, self._admin_token):
            raise Problem(403, "wrong-key", "expected the admin token, got another key")

    def check_predict(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the predict key, if one is required.

        Raises:
            Problem: 401 if it is missing, 403 if it is wrong.
        """
        if self.predict_key is None:
            return
        given = _given(headers)
        if given is None:
            raise _missing("the predict key")
        if not hmac.compare_digest(given, self.predict_key):
            raise Problem(403, "wrong-key", "expected the predict key, got another key")

    def feedback_source(self, headers: Iterable[tuple[bytes, bytes]]) -> FeedbackSource:
        """Return the source of a feedback key.

        Raises:
            Problem: 401 if the key is missing, 403 if it is wrong.
        """
        given = _given(headers)
        if given is None:
            raise _missing("a feedback key")
        found = None
        for key, source in self._feedback:  # all of them, so that the time reveals nothing
            if hmac.compare_digest(given, key):
                found = source
        if found is None:
            raise Problem(403, "wrong-key", "expected a feedback key of EVERGREEN_FEEDBACK_KEYS, got another key")
        return found


def _missing(what: str) -> Problem:
    return Problem(
        401,
        "key-missing",
        f"{what} is required; send it as Authorization: Bearer KEY or X-API-Key: KEY",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def _given(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
    return None
