"""A peer for `benchmarks.serving`: one int8 model behind FastAPI as most would write it. PACKAGE names its folder."""

import os

from fastapi import FastAPI
from pydantic import BaseModel

from absa.inference.engine import Engine
from absa.labels import SENTIMENTS


class Question(BaseModel):
    """What a customer asks."""

    text: str
    aspect: str
    unit_id: str | None = None
    segment: str | None = None


class Answer(BaseModel):
    """What the model says."""

    label: int
    sentiment: str
    scores: list[float]


app = FastAPI()
engine = Engine.load(os.environ["PACKAGE"])


@app.post("/v1/predict")
def predict(question: Question) -> Answer:
    """Score one row, in FastAPI's pool of threads."""
    scores = engine.score([(question.text, question.aspect)])[0].tolist()
    label = scores.index(max(scores))
    return Answer(label=label, sentiment=SENTIMENTS[label], scores=scores)
