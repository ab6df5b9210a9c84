"""Peers of the benchmark `serving`: one int8 model behind FastAPI as usually written, and an app that does nothing.

PACKAGE names the model's folder.
"""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from absa.inference.engine import Engine
from absa.task import SENTIMENTS


class Question(BaseModel):
    """Question of a customer."""

    text: str
    aspect: str
    unit_id: str | None = None
    segment: str | None = None


class Answer(BaseModel):
    """Answer of the model."""

    label: int
    sentiment: str
    scores: list[float]


def scoring() -> FastAPI:
    """The app that scores a row a request, in FastAPI's pool of threads."""
    app = FastAPI()
    engine = Engine.load(os.environ["PACKAGE"])

    @app.post("/v1/predict")
    def predict(question: Question) -> Answer:
        scores = engine.score([(question.text, question.aspect)])[0].tolist()
        label = scores.index(max(scores))
        return Answer(label=label, sentiment=SENTIMENTS[label], scores=scores)

    return app


async def nothing(_scope: Any, receive: Any, send: Any) -> None:
    """The least that an ASGI app can do: read the body and answer two bytes."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})
