"""HTTP errors as `application/problem+json` (RFC 9457). Details name the remedy and hold no customer's text."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

PROBLEM_TYPE: Final = b"application/problem+json"


class FieldError(NamedTuple):
    """Error of one field. `path` has the form `instances[3].aspect`."""

    path: str
    message: str


class Problem(Exception):  # noqa: N818  the term of RFC 9457
    """Answer with a status of 400 or above.

    Args:
        status: HTTP status.
        kind: short name of the problem, the end of its `type`.
        detail: one sentence that names the remedy.
        errors: the invalid fields.
        headers: extra response headers.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(status, kind, detail, errors, headers)
        self.status, self.kind, self.detail, self.errors, self.headers = status, kind, detail, errors, headers

    def without_traceback(self) -> "Problem":
        """Return the problem without its traceback.

        The frames of a traceback keep the request's body in memory. A frame that also holds the problem makes a
        reference cycle, so the body would stay.
        """
        self.__context__ = None
        return self.with_traceback(None)

    def body(self) -> bytes:
        """Return the problem as JSON."""
        content: dict[str, Any] = {
            "type": f"urn:evergreen:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            content["errors"] = [error._asdict() for error in self.errors]
        return orjson.dumps(content)


def invalid(path: str, message: str) -> Problem:
    """Return 422 for one field."""
    return Problem(422, "invalid-field", f"{path} {message}", [FieldError(path, message)])


def bad_json(detail: str) -> Problem:
    """Return 400 for a body that is not strict JSON."""
    return Problem(400, "bad-json", detail)


def bad_request(detail: str) -> Problem:
    """Return 400 for a malformed or unsupported HTTP request."""
    return Problem(400, "bad-request", detail)


def too_large(limit_bytes: int) -> Problem:
    """Return 413 for a body beyond the limit."""
    return Problem(413, "too-large", f"expected a body of at most {limit_bytes} bytes; send a smaller one")


def unsupported_encoding(header: str, expected: str) -> Problem:
    """Return 415 for an unsupported encoding of a body. `expected` is the supported one."""
    headers = [(b"accept-encoding", b"identity")] if header == "Content-Encoding" else []
    return Problem(415, "encoding", f"{header}: expected {expected}; send the body as plain JSON", headers=headers)


def not_ready(detail: str) -> Problem:
    """Return 503: the worker cannot answer yet."""
    return Problem(503, "not-ready", detail, headers=[(b"retry-after", b"1")])


def internal_error() -> Problem:
    """Return 500 for an internal error."""
    return Problem(500, "internal", "the router failed to answer; its log has the reason")


def bodies_full() -> Problem:
    """Return 429: unfinished bodies use all the memory reserved for them."""
    detail = "unfinished requests use all the memory reserved for them; try again in 1 s"
    return Problem(429, "overload", detail, headers=[(b"retry-after", b"1")])


def overload(retry_after_s: int) -> Problem:
    """Return 429: the queue is full."""
    return Problem(
        429,
        "overload",
        f"the queue is full; try again in {retry_after_s} s",
        headers=[(b"retry-after", str(retry_after_s).encode())],
    )


_SENTENCES: Final = {
    400: "Not HTTP/1.1, or the body is not strict JSON",
    401: "A key is required",
    403: "The key is wrong, or the router has no key for this route",
    409: "The plan has changed since the named revision",
    413: "The body is too large",
    415: "The body has an unsupported encoding; send plain JSON",
    422: "A field is invalid; errors name it",
    429: "Overload: try again after the seconds in Retry-After",
    431: "More than 100 headers, or more than 16 kB of them",
    500: "The model could not score this request",
    503: "Not ready",
    504: "The deadline passed",
}


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route for its OpenAPI document."""
    content = {PROBLEM_TYPE.decode(): {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {code: {"description": _SENTENCES[code], "content": content} for code in codes}
