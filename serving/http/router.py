"""ASGI application of a worker: predictions go to the predictor, all other requests to FastAPI."""

import asyncio
import logging
from typing import Final

from serving.http.cors import Cors, origin_of
from serving.http.edge import Edge
from serving.http.messages import PREDICT_PATH, App, Message, Receive, Scope, Send, send_problem
from serving.http.predict_route import Predictor
from serving.problems import Problem, internal_error, not_ready

_log = logging.getLogger("evergreen.http")
_PUBLIC: Final = {PREDICT_PATH, "/v1/feedback", "/healthz", "/readyz"}
"""Paths that stay on the public port when the other routes have an admin port."""


class Router:
    """Passes a request to the predictor or the app, and answers with a problem if either fails.

    Args:
        predict: answers POST /v1/predict.
        rest: answers the other routes.
        body_limit_bytes: largest body of one request.
        admin_port: port of the routes that are not public; None: all routes are on one port.
        cors: origins of web pages that may call the router; None: no page may.

    Attributes:
        edge: limits of the protocol, and counts of its refusals.
        cors: the given origins.
    """

    def __init__(
        self,
        *,
        predict: Predictor,
        rest: App,
        body_limit_bytes: int,
        admin_port: int | None = None,
        cors: Cors | None = None,
    ) -> None:
        self._predict, self._rest, self._admin_port, self.cors = predict, rest, admin_port, cors
        self.edge = Edge(body_limit_bytes=body_limit_bytes)

    def predictor_on(self, port: int | None) -> Predictor | None:
        """Return the predictor of a port; None on the admin port."""
        return None if port is not None and port == self._admin_port else self._predict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        on_admin_port = self._admin_port is not None and scope["server"][1] == self._admin_port
        cors = None if on_admin_port else self.cors
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if cors is not None:
                    message["headers"] = [*message["headers"], *cors.headers(origin_of(scope["headers"]))]
            await send(message)

        try:
            if cors is not None and scope["method"] == "OPTIONS" and (allowed := cors.preflight(scope["headers"])):
                await noting_send({"type": "http.response.start", "status": 204, "headers": list(allowed)})
                await noting_send({"type": "http.response.body", "body": b""})
            else:
                await self._answer(scope, receive, noting_send, on_admin_port=on_admin_port)
        except Problem as problem:
            await send_problem(noting_send, problem)
        except asyncio.CancelledError:  # the time limit for stopping has passed
            if not started:
                await send_problem(noting_send, not_ready("this worker is stopping; try again"))
            raise
        except Exception as error:
            if started:
                raise
            _log.exception("a request failed: %s", type(error).__name__)
            await send_problem(noting_send, internal_error())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, on_admin_port: bool) -> None:
        if scope["path"] == PREDICT_PATH and not on_admin_port:
            if scope["method"] != "POST":
                raise Problem(405, "method", f"{PREDICT_PATH} accepts POST", headers=[(b"allow", b"POST")])
            await self._predict(scope, receive, send)
            return
        public = scope["path"].removesuffix("/") in _PUBLIC  # the app redirects to the path without the slash
        if self._admin_port is not None and not on_admin_port and not public:
            raise Problem(404, "not-found", "no route of the public port has this path")
        if scope["method"] == "HEAD":  # uvicorn omits the body
            scope = {**scope, "method": "GET"}
        await self._rest(scope, receive, send)
