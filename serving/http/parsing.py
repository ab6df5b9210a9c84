"""Bytes from a client to items, strictly: what is not understood is refused with the field's path."""

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from absa.inference.aspect_span import has_aspect
from serving.problems import Problem, bad_json, invalid

_FIELDS: Final = frozenset({"text", "aspect", "unit_id", "segment"})
_KINDS: Final = {
    list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null",
}  # fmt: skip
_MAX_ASPECT_CHARS: Final = 500
_MAX_UNIT_CHARS: Final = 200
_MAX_SEGMENT_CHARS: Final = 100


class Item(NamedTuple):
    """One question: the sentiment towards `aspect` in `text`."""

    text: str
    aspect: str
    unit_id: str | None
    segment: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much one request may carry."""

    max_text_chars: int = 10_000
    max_instances: int = 128


def parse_predict(body: bytes, limits: Limits) -> tuple[list[Item], bool]:
    """Read the body of a predict request.

    Returns:
        The items, and whether they came as a list (`instances`).

    Raises:
        Problem: 400 where the body is not strict JSON, 422 where a field is to blame.
    """
    content = parse_object(body)
    instances = content.get("instances")
    if instances is None:
        if "instances" in content:
            raise invalid("instances", "must be a list of objects")
        return [_item(content, "", limits)], False
    for name in content:
        if name != "instances":
            raise invalid(_shown(name), "cannot stand beside instances: put it into each of them")
    if type(instances) is not list:
        raise invalid("instances", "must be a list of objects")
    if not 1 <= len(instances) <= limits.max_instances:
        raise invalid("instances", f"must hold 1 to {limits.max_instances} objects, got {len(instances)}")
    return [_item(each, f"instances[{index}].", limits) for index, each in enumerate(instances)], True


def _item(content: object, path: str, limits: Limits) -> Item:
    if type(content) is not dict:
        raise invalid(path.rstrip(".") or "body", "must be an object with text and aspect")
    if not content.keys() <= _FIELDS:
        unknown = min(content.keys() - _FIELDS)
        raise invalid(path + _shown(unknown), f"is not known; expected {', '.join(sorted(_FIELDS))}")
    text = _string(content, "text", path, limits.max_text_chars)
    aspect = _string(content, "aspect", path, _MAX_ASPECT_CHARS)
    if not has_aspect(text, aspect):
        raise invalid(f"{path}aspect", "must be a phrase that stands in text (upper and lower case are the same)")
    return Item(
        text,
        aspect,
        _optional(content, "unit_id", path, _MAX_UNIT_CHARS),
        _optional(content, "segment", path, _MAX_SEGMENT_CHARS),
    )


def _string(content: dict[str, Any], name: str, path: str, limit: int) -> str:
    value = content.get(name)
    if type(value) is not str:
        raise invalid(path + name, "is missing" if name not in content else "must be a string")
    if len(value) > limit:
        raise invalid(path + name, f"has {len(value)} characters, the limit is {limit}")
    if not value or value.isspace():
        raise invalid(path + name, "must not be empty")
    return value


def _optional(content: dict[str, Any], name: str, path: str, limit: int) -> str | None:
    return _string(content, name, path, limit) if content.get(name) is not None else None


def _shown(name: str) -> str:
    """A field's name as an error may show it: a customer's text could stand where a name should."""
    return name if name.isidentifier() and name.isascii() and len(name) <= 40 else "(an unknown field)"


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Refused: bad UTF-8, NaN, lone surrogates, nesting without end, a name that comes twice.

    Raises:
        Problem: 400 where it is not strict JSON, 422 where it is another value than an object.
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
    """Cheap and never wrong with no: a body of plain strings has two quotes for each name and each string."""
    if b"\\" in body:
        return True
    strings = 0
    for value in content.values():
        strings += 1
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
            raise bad_json("a name comes twice in one object")
        return content

    try:
        json.loads(body, object_pairs_hook=unique, parse_int=float)
    except Problem:
        raise
    except (ValueError, RecursionError):
        raise bad_json("the body is not valid JSON in UTF-8") from None
