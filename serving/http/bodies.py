"""Bodies of requests and answers. One definition validates requests and generates the API's document."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from absa.task import ABSA, TaskSpec

_STRICT: Final = ConfigDict(extra="forbid", strict=True)
_NOT_BLANK: Final = r"[^\s\x1c-\x1f]"
_EXAMPLES: Final[Mapping[str, dict[str, str]]] = {
    "text": {"text": "i was charged twice this month"},
    "text+aspect": {"text": "i love notion, but the mobile app takes way too long to load", "aspect": "mobile app"},
    "text+topic": {"text": "i was charged twice this month", "topic": "billing"},
}
_CERTAIN: Final = "True if the score is high enough for the promise, false if it is not; null if nothing is promised"
_CUT: Final[Mapping[str, str]] = {
    "text": "its end was left out",
    "text+aspect": "was cut around the aspect",
    "text+topic": "its end was left out",
}


def _string(max_length: int, description: str) -> Any:
    return Field(min_length=1, max_length=max_length, pattern=_NOT_BLANK, description=description)


class PredictItem(BaseModel):
    """One text to label."""

    model_config = _STRICT
    text: str
    unit_id: Annotated[str | None, _string(200, "User or account: equal units get the same arm")] = None
    segment: Annotated[str | None, _string(100, "Product, customer or market")] = None

    @property
    def phrase(self) -> str | None:
        """Aspect or topic; None for plain text."""
        return None


class AspectItem(PredictItem):
    """One text to label, with the aspect (a phrase of the text) that the label is about."""

    aspect: Annotated[str, _string(500, "A phrase of the text; upper and lower case are equal")]

    @property
    def phrase(self) -> str | None:
        """The aspect."""
        return self.aspect


class TopicItem(PredictItem):
    """One text to label, with the topic that the label is about."""

    topic: Annotated[
        str,
        _string(500, "A phrase, in the text or not; the field may also be named aspect"),
        Field(validation_alias=AliasChoices("topic", "aspect")),
    ]

    @property
    def phrase(self) -> str | None:
        """The topic."""
        return self.topic


_ITEMS: Final[Mapping[str, type[PredictItem]]] = {
    "text": PredictItem,
    "text+aspect": AspectItem,
    "text+topic": TopicItem,
}


class PredictBatch(BaseModel):
    """Several texts, answered in order."""

    model_config = _STRICT
    instances: list[PredictItem]


class PredictAnswer(BaseModel):
    """One answer. Scores are in the order of the labels of its version and sum to 1."""

    request_id: str


class PredictAnswers(BaseModel):
    """Answers in the order of the request's items."""


class VersionAnswer(BaseModel):
    """Answer of one version."""

    arm: str
    version: str


class VersionAnswers(BaseModel):
    """Answers of the active versions, the champion first."""


class FeedbackBody(BaseModel):
    """Right label of a prediction."""

    model_config = _STRICT
    request_id: Annotated[str, Field(min_length=36, max_length=36, description="request_id of the answer")]
    label: int
    sampling_probability: Annotated[
        float | None, Field(gt=0, le=1, description="Probability with which this prediction was selected for labelling")
    ] = None


class FeedbackBatch(BaseModel):
    """Right labels of several predictions: all are stored or none."""

    model_config = _STRICT
    instances: list[FeedbackBody]


class TaskBodies:
    """Bodies and answers of one task, with the limits of a router.

    Args:
        task: gives input form and labels.
        max_text_chars: largest number of characters of a text.
        max_instances: largest number of items of a request.

    Attributes:
        item: one text, with an aspect or topic if the task has one.
        batch: several of them.
        feedback: a label of the task, as its number or its name.
        feedback_batch: several of them.
        answers: bodies of the answers, for the API's document.
        example: an item.
    """

    def __init__(self, task: TaskSpec, *, max_text_chars: int, max_instances: int) -> None:
        self.task = task
        self.phrase_in_text = task.phrase == "aspect"
        form = _ITEMS[task.input]
        text = Annotated[str, _string(max_text_chars, "Text that the customer wrote")]
        self.item = create_model("PredictItem", __base__=form, __doc__=form.__doc__, text=(text, ...))
        instances = Annotated[list[self.item], Field(min_length=1, max_length=max_instances)]  # type: ignore[name-defined]
        self.batch = create_model(
            "PredictBatch", __base__=PredictBatch, __doc__=PredictBatch.__doc__, instances=(instances, ...)
        )
        self.read_item: Callable[[object], PredictItem] = self.item.__pydantic_validator__.validate_python
        self.read_batch: Callable[[object], PredictBatch] = self.batch.__pydantic_validator__.validate_python
        self.feedback = _feedback_of(task)
        labels = Annotated[list[self.feedback], Field(min_length=1, max_length=max_instances)]  # type: ignore[name-defined]
        self.feedback_batch = create_model(
            "FeedbackBatch", __base__=FeedbackBatch, __doc__=FeedbackBatch.__doc__, instances=(labels, ...)
        )
        self.answers = _answers_of(task)
        self.example = {**_EXAMPLES[task.input], "unit_id": "acct-42", "segment": "mobile"}


class BodiesByTask:
    """Bodies of the active task. They are built again when the task changes.

    Args:
        max_text_chars: largest number of characters of a text.
        max_instances: largest number of items of a request.
    """

    def __init__(self, *, max_text_chars: int, max_instances: int) -> None:
        self._limits = {"max_text_chars": max_text_chars, "max_instances": max_instances}
        self._made: TaskBodies | None = None

    def of(self, task: TaskSpec) -> TaskBodies:
        """Return the bodies of a task."""
        made = self._made
        if made is None or (made.task is not task and made.task != task):
            made = self._made = TaskBodies(task, **self._limits)
        return made


def named_label(task: TaskSpec, label: int) -> dict[str, Any]:
    """Return the fields of an answer that name its label. Only the default task has `sentiment`."""
    name = task.labels[label]
    named = {"label": label, "name": name}
    return {**named, "sentiment": name} if task.extends(ABSA) else named


def _feedback_of(task: TaskSpec) -> type[FeedbackBody]:
    numbers = {name.casefold(): number for number, name in enumerate(task.labels)}

    def read(written: object) -> object:
        return numbers.get(written.strip().casefold(), written) if isinstance(written, str) else written

    listed = ", ".join(f"{number} {name}" for number, name in enumerate(task.labels))
    label = Annotated[
        int,
        Field(ge=0, le=task.n_labels - 1, description=f"{listed}; or the name, in any case"),
        BeforeValidator(read, json_schema_input_type=Literal[(*range(task.n_labels), *task.labels)]),
    ]
    return create_model("FeedbackBody", __base__=FeedbackBody, __doc__=FeedbackBody.__doc__, label=(label, ...))


def _answers_of(task: TaskSpec) -> tuple[type[BaseModel], ...]:
    numbers: Any = Literal[tuple(range(task.n_labels))]
    names: Any = Literal[task.labels]
    of_label: dict[str, Any] = {"label": (numbers, ...), "name": (names, ...)}
    if task.extends(ABSA):
        of_label["sentiment"] = (names, ...)
    scores = Field(min_length=2, max_length=task.n_labels, description="Probability of each label of its version")
    cut = Field(description=f"True if the text is too long and {_CUT[task.input]}")
    of_label |= {"scores": (Annotated[list[float], scores], ...), "truncated": (Annotated[bool, cut], ...)}

    def made(base: type[BaseModel], **fields: Any) -> type[BaseModel]:
        return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)

    answer = made(
        PredictAnswer,
        **of_label,
        certain=(Annotated[bool | None, Field(description=_CERTAIN)], ...),
        model_version=(str, ...),
        arm=(str, ...),
        experiment=(str | None, ...),
        cached=(bool, ...),
    )
    by_version = made(VersionAnswer, **of_label)
    return (
        answer,
        made(PredictAnswers, predictions=(list[answer], ...)),  # type: ignore[valid-type]
        by_version,
        made(VersionAnswers, versions=(list[by_version], ...)),  # type: ignore[valid-type]
    )


class ArmBody(BaseModel):
    """One arm of a plan: a version and its share of the traffic."""

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
    """New plan, and the revision that it replaces."""

    model_config = _STRICT
    revision: Annotated[int, Field(ge=1, description="The revision from GET /v1/traffic")]
    plan: PlanBody
    reason: Annotated[str, Field(min_length=1, max_length=500)] = "set over HTTP"
    actor: Annotated[str, Field(min_length=1, max_length=100)] = "admin"


class ProblemBody(BaseModel):
    """Error (RFC 9457). `errors` names the invalid fields."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


class Accepted(BaseModel):
    """Feedback was stored."""

    accepted: Literal[True]


class PlanSet(BaseModel):
    """New plan and its revision."""

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
    """Version of the newest plan, or one that still serves."""

    version: str
    alias: Annotated[str | None, Field(description="champion, challenger or null")]
    digest: Annotated[str | None, Field(description="SHA-256 of the package")]
    task: Annotated[str | None, Field(description="Name of its task; null if it is not loaded")]
    input: Annotated[str | None, Field(description="Its input form")]
    labels: Annotated[list[str] | None, Field(description="In the order of the scores")]
    loaded_at: Annotated[str | None, Field(description="UTC, ISO 8601; null if it is not loaded")]
    state: Literal["serving", "serving, to be replaced", "loading", "failed", "waiting"]
    last_error: str | None


class WorkerModels(BaseModel):
    """One worker, and the versions that it has loaded or waits for."""

    worker: Annotated[str, Field(description="Its number")]
    pid: int
    ready: Annotated[bool, Field(description="True if it answers predictions")]
    revision: Annotated[int, Field(description="Revision of the plan that it uses")]
    models: list[HeldModel]


class Models(BaseModel):
    """Every worker of the replica."""

    workers: list[WorkerModels]


BODIES: Final = (Accepted, TrafficBody, PlanSet, Traffic, Models, ProblemBody)


def ref(model: type[BaseModel]) -> dict[str, str]:
    """Return the reference to a body in the API's document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def request_body(model: type[BaseModel], example: dict[str, Any], *others: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a request body, one of the models, for the API's document."""
    schema = {"oneOf": [ref(each) for each in (model, *others)]} if others else ref(model)
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answered(model: type[BaseModel], description: str, code: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer for the API's document."""
    return {code: {"description": description, "content": {"application/json": {"schema": ref(model)}}}}
