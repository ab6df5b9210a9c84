"""Bodies and answers of the router: one definition validates requests and makes the API's document."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from absa.task import label_number

_STRICT: Final = ConfigDict(extra="forbid", strict=True)
_NOT_BLANK: Final = r"[^\s\x1c-\x1f]"
EXAMPLE: Final = {
    "text": "i love notion, but the mobile app takes way too long to load",
    "aspect": "mobile app",
    "unit_id": "acct-42",
    "segment": "mobile",
}


def _string(max_length: int, description: str) -> Any:
    return Field(min_length=1, max_length=max_length, pattern=_NOT_BLANK, description=description)


class PredictItem(BaseModel):
    """One question: the sentiment towards `aspect` in `text`."""

    model_config = _STRICT
    text: str
    aspect: Annotated[str, _string(500, "A phrase of the text; upper and lower case are the same")]
    unit_id: Annotated[str | None, _string(200, "User or account: equal units get the same arm")] = None
    segment: Annotated[str | None, _string(100, "Product, customer or market")] = None


class PredictBatch(BaseModel):
    """Several questions, answered in order."""

    model_config = _STRICT
    instances: list[PredictItem]


class PredictBodies:
    """Bodies of POST /v1/predict with the limits of a router.

    Args:
        max_text_chars: characters of a text, at most.
        max_instances: items of a request, at most.
    """

    def __init__(self, *, max_text_chars: int, max_instances: int) -> None:
        text = Annotated[str, _string(max_text_chars, "Text that the customer wrote")]
        self.item = create_model("PredictItem", __base__=PredictItem, __doc__=PredictItem.__doc__, text=(text, ...))
        instances = Annotated[list[self.item], Field(min_length=1, max_length=max_instances)]  # type: ignore[name-defined]
        self.batch = create_model(
            "PredictBatch", __base__=PredictBatch, __doc__=PredictBatch.__doc__, instances=(instances, ...)
        )
        self.read_item: Callable[[object], PredictItem] = self.item.__pydantic_validator__.validate_python
        self.read_batch: Callable[[object], PredictBatch] = self.batch.__pydantic_validator__.validate_python


class PredictAnswer(BaseModel):
    """One answer. Scores are in the order negative, neutral, positive and sum to 1."""

    request_id: str
    label: Literal[0, 1, 2]
    sentiment: Literal["negative", "neutral", "positive"]
    scores: Annotated[list[float], Field(min_length=3, max_length=3)]
    truncated: Annotated[bool, Field(description="True if the text is too long and was cut around the aspect")]
    model_version: str
    arm: str
    experiment: str | None
    cached: bool


class PredictAnswers(BaseModel):
    """Answers in the order of the questions."""

    predictions: list[PredictAnswer]


class Opinion(BaseModel):
    """Answer of one version."""

    arm: str
    version: str
    label: Literal[0, 1, 2]
    sentiment: Literal["negative", "neutral", "positive"]
    scores: Annotated[list[float], Field(min_length=3, max_length=3)]
    truncated: Annotated[bool, Field(description="True if the text is too long and was cut around the aspect")]


class Opinions(BaseModel):
    """Answers of the active versions, the champion first."""

    versions: list[Opinion]


class FeedbackBody(BaseModel):
    """Right label of a prediction."""

    model_config = _STRICT
    request_id: Annotated[str, Field(min_length=36, max_length=36, description="As the answer gave it")]
    label: Annotated[
        int,
        Field(ge=0, le=2, description="0 negative, 1 neutral, 2 positive; or the name, in any case"),
        BeforeValidator(label_number, json_schema_input_type=Literal[0, 1, 2, "negative", "neutral", "positive"]),
    ]
    sampling_probability: Annotated[
        float | None, Field(gt=0, le=1, description="Probability with which this prediction was chosen for a label")
    ] = None


class ArmBody(BaseModel):
    """One version's part in a plan."""

    model_config = _STRICT
    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(min_length=1, max_length=100)]
    share: Annotated[float, Field(ge=0, le=1)]


class PlanBody(BaseModel):
    """Traffic plan: the share of each version. The champion comes first; shares sum to 1."""

    model_config = _STRICT
    mode: Literal["single", "shadow", "ab"]
    experiment: Annotated[str | None, Field(max_length=200)] = None
    salt: Annotated[str, Field(max_length=100)] = ""
    arms: Annotated[list[ArmBody], Field(min_length=1, max_length=20)]


class TrafficBody(BaseModel):
    """A new plan, and the revision that it is meant to follow."""

    model_config = _STRICT
    revision: Annotated[int, Field(ge=1, description="The revision that GET /v1/traffic gave")]
    plan: PlanBody
    reason: Annotated[str, Field(min_length=1, max_length=500)] = "set over HTTP"
    actor: Annotated[str, Field(min_length=1, max_length=100)] = "admin"


class ProblemBody(BaseModel):
    """An error (RFC 9457). `errors` names the fields to blame."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


class Accepted(BaseModel):
    """The feedback is kept."""

    accepted: Literal[True]


class PlanSet(BaseModel):
    """The plan that was set, and the revision that it has."""

    revision: int
    plan: PlanBody


class Traffic(BaseModel):
    """Active plan, and the ledger's record that set it."""

    revision: Annotated[int, Field(description="Number of the ledger's newest record")]
    at: Annotated[str, Field(description="Time of that record: UTC, ISO 8601")]
    actor: str
    action: str
    champion: str | None
    challenger: str | None
    plan: PlanBody
    errors: Annotated[dict[str, str], Field(description="By version, why its model cannot be fetched")]


class HeldModel(BaseModel):
    """A version of the newest plan, or one that still serves."""

    version: str
    alias: Annotated[str | None, Field(description="champion, challenger or null")]
    digest: Annotated[str | None, Field(description="SHA-256 of the package")]
    loaded_at: Annotated[str | None, Field(description="UTC, ISO 8601; null where it is not loaded")]
    state: Literal["serving", "serving, to be replaced", "loading", "failed", "waiting"]
    last_error: str | None


class WorkerModels(BaseModel):
    """One worker, and the versions that it holds or waits for."""

    worker: Annotated[str, Field(description="Its number")]
    pid: int
    ready: Annotated[bool, Field(description="True if it answers predictions")]
    revision: Annotated[int, Field(description="Of the plan that it answers by")]
    models: list[HeldModel]


class Models(BaseModel):
    """Every worker of the replica."""

    workers: list[WorkerModels]


BODIES: Final = (
    PredictAnswer, PredictAnswers, Opinions, FeedbackBody, Accepted, TrafficBody, PlanSet, Traffic, Models, ProblemBody,
)  # fmt: skip


def ref(model: type[BaseModel]) -> dict[str, str]:
    """Return the reference to a body in the API's document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def request_body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return a route's body for the API's document."""
    content = {"application/json": {"schema": ref(model), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answered(model: type[BaseModel], description: str, code: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return a route's answer for the API's document."""
    return {code: {"description": description, "content": {"application/json": {"schema": ref(model)}}}}
