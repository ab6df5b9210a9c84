"""ASGI messages: read whole bodies, send JSON and problems with the headers that every answer has."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import orjson
from fastapi import Response

from serving.problems import PROBLEM_TYPE, Problem, too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

PREDICT_PATH: Final = "/v1/predict"
COMPARE_PATH: Final = "/v1/compare"
JSON_TYPE: Final = b"application/json"
SECURITY_HEADERS: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """Read the whole body.

    The protocol of a worker refuses too large bodies earlier. This check is for other ASGI servers.

    Raises:
        Problem: 400 if the client disconnects, 413 if the body is larger than the limit.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and len(value) > 3 and value.isdigit() and int(value[:20]) > limit_bytes:
            raise too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit_bytes:
            raise too_large(limit_bytes)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "disconnected", "the client disconnected before its request was complete")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise too_large(limit_bytes)
    return b"".join(chunks)


async def send_json(send: Send, status: int, content: bytes) -> None:
    """Send JSON."""
    await _send(send, status, JSON_TYPE, content)


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem. A 413 closes the connection, because the rest of the body is not read."""
    more = [(b"connection", b"close")] if problem.status == 413 else []
    await _send(send, problem.status, PROBLEM_TYPE, problem.body(), [*problem.headers, *more])


async def _send(send: Send, status: int, kind: bytes, content: bytes, more: Headers = ()) -> None:
    length = str(len(content)).encode()
    headers = [(b"content-type", kind), (b"content-length", length), *SECURITY_HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def response(content: bytes, status: int = 200, kind: bytes = JSON_TYPE, headers: Headers = ()) -> Response:
    """Return an answer of a FastAPI route, with the common headers."""
    named = {name.decode(): value.decode() for name, value in (*SECURITY_HEADERS, *headers)}
    return Response(content, status, named, media_type=kind.decode())


def json_response(content: Any, status: int = 200) -> Response:
    """Return content as a JSON answer."""
    return response(orjson.dumps(content), status)
