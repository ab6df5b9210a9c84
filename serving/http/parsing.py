"""Strict parsing of request bodies: unknown or invalid fields are refused with their path."""

import json
from typing import Any, Final, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from absa.inference.aspect_span import has_aspect
from absa.records.identifiers import is_request_id
from serving.http.bodies import FeedbackBatch, FeedbackBody, PredictBatch, PredictItem, TaskBodies
from serving.problems import FieldError, Problem, bad_json, invalid

Body = TypeVar("Body", bound=BaseModel)

_KINDS: Final = {
    list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null",
}  # fmt: skip
_SENTENCES: Final = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must not be empty",
    "list_type": "must be a list of objects",
    "model_type": "must be an object",
}
_NO_ASPECT: Final = "must be a phrase of the text (upper and lower case are equal)"
_SHOWN_ERRORS: Final = 5
_MOST_ERRORS: Final = 1_000


def parse_predict(body: bytes, bodies: TaskBodies) -> tuple[list[PredictItem], bool]:
    """Read the body of a predict request.

    Returns:
        The items, and True if they came as a list (`instances`).

    Raises:
        Problem: 400 if the body is not strict JSON, 422 if a field is invalid.
    """
    content = parse_object(body)
    several = "instances" in content
    try:
        if not several:
            item = bodies.read_item(content)
            if bodies.phrase_in_text and not has_aspect(item.text, item.phrase or ""):
                raise invalid("aspect", _NO_ASPECT)
            return [item], False
        items = bodies.read_batch(content).instances
    except ValidationError as error:
        raise _refusal(error, bodies.batch if several else bodies.item) from None
    if bodies.phrase_in_text:
        for index, item in enumerate(items):
            if not has_aspect(item.text, item.phrase or ""):
                raise invalid(f"instances[{index}].aspect", _NO_ASPECT)
    return items, True


def parse_feedback(body: bytes, bodies: TaskBodies) -> list[FeedbackBody]:
    """Read the body of a feedback request: one label, or several as `instances`.

    Raises:
        Problem: 400 if the body is not strict JSON, 422 if a field is invalid; no label is accepted then.
    """
    content = parse_object(body)
    several = "instances" in content
    try:
        if several:
            found: list[FeedbackBody] = bodies.feedback_batch.model_validate(content).instances
        else:
            found = [bodies.feedback.model_validate(content)]
    except ValidationError as error:
        raise _refusal(error, bodies.feedback_batch if several else bodies.feedback) from None
    for index, each in enumerate(found):
        if not is_request_id(each.request_id):
            where = f"instances[{index}].request_id" if several else "request_id"
            raise invalid(where, "is not the request_id of an answer")
    return found


def parse_body(body: bytes, model: type[Body]) -> Body:
    """Read a body of one model.

    Raises:
        Problem: 400 if the body is not strict JSON, 422 if fields are invalid.
    """
    content = parse_object(body)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _refusal(error, model) from None


def _refusal(error: ValidationError, model: type[BaseModel]) -> Problem:
    if error.error_count() > _MOST_ERRORS:  # listing them would delay other requests
        return invalid("body", f"has {error.error_count()} errors; expected the fields in /docs")
    found = error.errors(include_url=False)[:_SHOWN_ERRORS]
    errors = [FieldError(_path(each["loc"]), _message(each, model)) for each in found]
    sentence = "; ".join(f"{path} {message}" for path, message in errors)
    return Problem(422, "invalid-field", sentence, errors)


def _message(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Return the error of a field, without the customer's text."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "string_too_long":
        return f"has {len(given)} characters, the limit is {context['max_length']}"
    if kind in {"too_long", "too_short"}:
        limit = f"at most {context['max_length']}" if kind == "too_long" else f"at least {context['min_length']}"
        return f"must hold {limit} objects, got {len(given)}"
    if kind == "extra_forbidden":
        owner = _owner(model, error["loc"])
        if issubclass(owner, PredictBatch | FeedbackBatch):
            return "is not allowed beside instances; put it into each of them"
        return f"is not known; expected {', '.join(sorted(owner.model_fields))}"
    return _SENTENCES.get(kind) or error["msg"].replace("Input should be", "must be")


def _owner(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the object that holds a field. A field with objects is `Model` or `list[Model]`."""
    for part in location[:-1]:
        if isinstance(part, str):
            annotation: Any = model.model_fields[part].annotation
            model = next(iter(get_args(annotation)), annotation)
    return model


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{_shown(part)}"
    return path or "body"


def _shown(name: str) -> str:
    """Return a field's name if an error may show it. Other names could hold a customer's text."""
    return name if name.isidentifier() and name.isascii() and len(name) <= 40 else "(an unknown field)"


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Refused: bad UTF-8, NaN, lone surrogates, endless nesting, repeated names.

    Raises:
        Problem: 400 if it is not strict JSON, 422 if it is not an object.
    """
    try:
        content = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError):
        raise bad_json("the body is not valid JSON in UTF-8") from None
    if type(content) is not dict:
        raise invalid("body", f"must be a JSON object, got {_KINDS[type(content)]}")
    if _may_repeat_a_name(body, content):
        _refuse_repeated_names(body)
    return content


def _may_repeat_a_name(body: bytes, content: dict[str, Any]) -> bool:
    """Return False only if no name repeats. A body of plain strings has two quotes per name and per string."""
    if b"\\" in body:
        return True
    strings = len(content)
    for value in content.values():
        if type(value) is str:
            strings += 1
        elif type(value) is list:
            for each in value:
                if type(each) is not dict:
                    return True
                strings += 2 * len(each)
                for inner in each.values():
                    if type(inner) is not str:
                        return True
        elif type(value) is dict:
            return True
    return body.count(b'"') != 2 * strings


def _refuse_repeated_names(body: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            raise bad_json("an object has the same name twice")
        return content

    try:
        json.loads(body, object_pairs_hook=unique, parse_int=float)
    except Problem:
        raise
    except (ValueError, RecursionError):
        raise bad_json("the body is not valid JSON in UTF-8") from None
