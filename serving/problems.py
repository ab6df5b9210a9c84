"""Errors as HTTP answers: `application/problem+json` (RFC 9457) with a sentence that helps and no customer's text."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

PROBLEM_TYPE: Final = b"application/problem+json"


class FieldError(NamedTuple):
    """Fault of one field. `path` is like `instances[3].aspect`."""

    path: str
    message: str


class Problem(Exception):  # noqa: N818  the name that RFC 9457 has for it
    """An answer with a status of 400 or above.

    Args:
        status: HTTP status.
        kind: short name of the problem, the end of its `type`.
        detail: one sentence that names the remedy.
        errors: the fields to blame.
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
        """Return itself, without the frames that it came through.

        They hold the request's body, and hold it for ever where one of them also holds the problem: a reference cycle.
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
    """422 for one field."""
    return Problem(422, "invalid-field", f"{path} {message}", [FieldError(path, message)])


def bad_json(detail: str) -> Problem:
    """400: the body is not the JSON that is accepted."""
    return Problem(400, "bad-json", detail)


def bad_request(detail: str) -> Problem:
    """Return 400 for a request that is not HTTP, or not in a form that is accepted."""
    return Problem(400, "bad-request", detail)


def too_large(limit_bytes: int) -> Problem:
    """Return 413 for a body beyond the limit."""
    return Problem(413, "too-large", f"the body may have at most {limit_bytes} bytes")


def unsupported_encoding(header: str, expected: str) -> Problem:
    """Return 415 for a body in an encoding that is not read. `expected` is the one that is."""
    headers = [(b"accept-encoding", b"identity")] if header == "Content-Encoding" else []
    return Problem(415, "encoding", f"{header}: expected {expected}; send the body as plain JSON", headers=headers)


def not_ready(detail: str) -> Problem:
    """503: there is nothing to answer with yet."""
    return Problem(503, "not-ready", detail, headers=[(b"retry-after", b"1")])


def internal_error() -> Problem:
    """Return 500 for a fault of the router's own."""
    return Problem(500, "internal", "something went wrong here; the router's log says what")


def bodies_full() -> Problem:
    """Return 429: the bodies that are still on their way hold all the memory that they may."""
    detail = "more bytes of unfinished requests wait than the router may hold; try again in 1 s"
    return Problem(429, "overload", detail, headers=[(b"retry-after", b"1")])


def overload(retry_after_s: int) -> Problem:
    """429: more waits than can be answered in time."""
    return Problem(
        429,
        "overload",
        f"more requests wait than can be answered in time; try again in {retry_after_s} s",
        headers=[(b"retry-after", str(retry_after_s).encode())],
    )


_SENTENCES: Final = {
    400: "Not HTTP/1.1, or the body is not strict JSON",
    401: "A key is needed",
    403: "The key is wrong, or the router has no key for this route",
    409: "The plan has moved on since the revision that was named",
    413: "The body is too large",
    415: "The body has a Content-Encoding; send it plain",
    422: "A field is invalid; errors name it",
    429: "Overload: try again after the seconds in Retry-After",
    431: "More than 100 headers, or more than 16 kB of them",
    500: "The model could not score this request",
    503: "Not ready",
    504: "The deadline passed",
}


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Problems that a route may answer with, as its OpenAPI document names them."""
    content = {PROBLEM_TYPE.decode(): {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {code: {"description": _SENTENCES[code], "content": content} for code in codes}
