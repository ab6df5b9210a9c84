"""A predict body is read strictly: what is not understood is refused with the field's path, and nothing crashes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.task import ABSA
from serving.http.bodies import TaskBodies, TrafficBody
from serving.http.parsing import parse_body, parse_object, parse_predict
from serving.problems import Problem

BODIES = TaskBodies(ABSA, max_text_chars=50, max_instances=3)
Item = BODIES.item
GOOD = {"text": "the App is slow", "aspect": "app"}


def refused(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_predict(body, BODIES)
    return caught.value


def test_one_item_is_read_with_what_is_optional() -> None:
    body = json.dumps({**GOOD, "unit_id": "u1", "segment": "mobile"}).encode()
    assert parse_predict(body, BODIES) == (
        [Item(text="the App is slow", aspect="app", unit_id="u1", segment="mobile")],
        False,
    )


@pytest.mark.parametrize(
    ("text", "aspect"),
    [("le cre\u0300me", "crème"), ("customer\u00a0service", "customer service"), ("chef\u2019s bar", "chef's  bar")],
)
def test_aspect_in_another_unicode_form_is_taken(text: str, aspect: str) -> None:
    items, _ = parse_predict(json.dumps({"text": text, "aspect": aspect}).encode(), BODIES)
    assert items == [Item(text=text, aspect=aspect)]


def test_null_is_the_same_as_leaving_out() -> None:
    items, _ = parse_predict(json.dumps({**GOOD, "unit_id": None}).encode(), BODIES)
    assert items == [Item(text="the App is slow", aspect="app")]


def test_several_items_keep_their_order() -> None:
    body = json.dumps({"instances": [GOOD, {"text": "a b", "aspect": "b"}]}).encode()
    items, several = parse_predict(body, BODIES)
    assert several
    assert [item.phrase for item in items] == ["app", "b"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",  # a byte order mark
        '{"text": "a b", "aspect": "a"}'.encode("utf-16"),
        b'{"text": "\xc0\xafa", "aspect": "a"}',  # overlong
        b'{"text": "\xed\xa0\x80a", "aspect": "a"}',  # a surrogate in UTF-8
        b'{"text": "a\x00b", "aspect": "a"}',
        b'{"text": "a", "aspect": Infinity}',
        b'{"text": "a", "aspect": -Infinity}',
        b'{"text": "a", "aspect": 1e999}',
        b'{"text": "a", "aspect": "a"} {}',
        b'{"text": "\xff", "aspect": "a"}',
        b'{"text": NaN, "aspect": "a"}',
        b'{"text": "\\ud800 a", "aspect": "a"}',
        b'{"text": "a", "text": "b", "aspect": "b"}',
        b'{"text": "a", "te\\u0078t": "b", "aspect": "b"}',
        b'{"instances": [{"text": "a", "aspect": "a", "aspect": "a"}]}',
        b'{"instances": [], "instances": [{"text": "a", "aspect": "a"}]}',
        b"[" * 100_000,
        b'{"text":' * 20_000,
        json.dumps({"text": 10**400, "aspect": "app"}).encode(),  # beyond 64 bits
    ],
)
def test_what_is_not_strict_json_is_a_400(body: bytes) -> None:
    assert refused(body).status == 400


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"1.5", b"null", b"true"])
def test_json_value_other_than_object_is_422(body: bytes) -> None:
    problem = refused(body)
    assert problem.status == 422
    assert [error.path for error in problem.errors] == ["body"]


def test_escaped_nul_is_a_character_of_the_text() -> None:
    items, _ = parse_predict(b'{"text": "an \\u0000 app", "aspect": "app"}', BODIES)
    assert items[0].text == "an \0 app"


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"aspect": "app"}, "text"),
        ({"text": "the app"}, "aspect"),
        ({"text": 7, "aspect": "app"}, "text"),
        ({"text": " ", "aspect": "app"}, "text"),
        ({"text": "the app", "aspect": "\x1f\x85"}, "aspect"),
        ({"text": "x" * 51, "aspect": "x"}, "text"),
        ({"text": "the app", "aspect": "mail"}, "aspect"),
        ({**GOOD, "unit_id": ""}, "unit_id"),
        ({**GOOD, "segment": ["a"]}, "segment"),
        ({**GOOD, "label": 1}, "label"),
        ({"instances": []}, "instances"),
        ({"instances": None}, "instances"),
        ({"instances": [GOOD] * 4}, "instances"),
        ({"instances": [GOOD], "text": "a"}, "text"),
        ({"instances": [GOOD, {"text": "the app", "aspect": "mail"}]}, "instances[1].aspect"),
        ({"instances": [GOOD, "text"]}, "instances[1]"),
    ],
)
def test_invalid_field_is_422_with_path(content: object, path: str) -> None:
    problem = refused(json.dumps(content).encode())
    assert problem.status == 422
    assert [error.path for error in problem.errors] == [path]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"text": "the app"}, "aspect is missing"),
        ({"text": None, "aspect": ""}, "text must be a string; aspect must not be empty"),
        ({**GOOD, "unit_id": "u" * 201}, "unit_id has 201 characters, the limit is 200"),
        ({**GOOD, "label": 1}, "label is not known; expected aspect, segment, text, unit_id"),
        ({**GOOD, "my secret": 1}, "(an unknown field) is not known; expected aspect, segment, text, unit_id"),
        ({"instances": [GOOD], "text": "a"}, "text is not allowed beside instances; put it into each of them"),
        (
            {"instances": [GOOD, {**GOOD, "b": 1}]},
            "instances[1].b is not known; expected aspect, segment, text, unit_id",
        ),
        ({"instances": [GOOD, 7]}, "instances[1] must be an object"),
        ({"instances": {}}, "instances must be a list of objects"),
        ({"instances": [GOOD] * 4}, "instances must hold at most 3 objects, got 4"),
        ({"instances": []}, "instances must hold at least 1 objects, got 0"),
    ],
)
def test_refusal_says_what_to_change(content: object, sentence: str) -> None:
    assert refused(json.dumps(content).encode()).detail == sentence


def test_refusal_of_other_bodies_names_nested_fields() -> None:
    plan = {"mode": "ab", "arms": [{"name": "champion", "version": "7", "share": 2, "x": 1}]}
    with pytest.raises(Problem) as caught:
        parse_body(json.dumps({"revision": 1, "plan": plan}).encode(), TrafficBody)
    assert [(error.path, error.message) for error in caught.value.errors] == [
        ("plan.arms[0].share", "must be less than or equal to 1"),
        ("plan.arms[0].x", "is not known; expected name, share, version"),
    ]


def test_many_unknown_fields_are_counted_not_listed() -> None:
    problem = refused(json.dumps({f"a{number}": 1 for number in range(5_000)}).encode())
    assert problem.errors == [("body", "has 5002 errors; expected the fields in /docs")]


def test_schema_shows_the_limits_that_hold() -> None:
    item, batch = BODIES.item.model_json_schema(), BODIES.batch.model_json_schema()
    assert item["properties"]["text"]["maxLength"] == 50
    assert batch["properties"]["instances"]["maxItems"] == 3
    assert item["additionalProperties"] is False


def test_a_problem_never_quotes_what_the_customer_wrote() -> None:
    secret = "my card is 4111"
    for content in ({"text": secret, "aspect": "x!"}, {secret: 1, "text": "a", "aspect": "a"}, {"text": [secret]}):
        assert "4111" not in refused(json.dumps(content).encode()).body().decode()


@given(st.binary(max_size=300))
def test_any_bytes_give_items_or_a_problem(body: bytes) -> None:
    try:
        items, _ = parse_predict(body, BODIES)
    except Problem as problem:
        assert problem.status in {400, 422}
    else:
        assert items


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.booleans())
def test_object_without_repeated_names_is_unchanged(content: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    try:
        assert parse_object(body) == content
    except Problem:
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in json.loads(text).__repr__()) or "\\ud" in text


@given(st.dictionaries(st.text('ab"\\', max_size=3), JSON, min_size=1, max_size=3), st.data())
def test_a_repeated_name_is_found_wherever_it_stands(content: dict[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content)))
    inner = json.dumps(content)[1:-1] + f", {json.dumps(name)}: 1"
    body = data.draw(st.sampled_from(["{%s}", '{"instances": [{%s}]}', '{"x": {"y": [{%s}]}}'])) % inner
    with pytest.raises(Problem):
        parse_object(body.encode())
