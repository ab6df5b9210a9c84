"""The span of an aspect: found in every Unicode form that counts as equal, with offsets of the given text."""

import sys
import time
import unicodedata
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.data.files.raw_rows import RAW
from absa.data.read import validate
from absa.inference.aspect_span import aspect_key, continues, find_aspect, has_aspect

# Characters whose casefold or NFKC form has another length, marks, jamo, half-width kana, white space, quotes.
ODD = (
    "aBeés ßẞﬁİıſŉǰΐΣς½①№Ⅷ…´¨″'’‘“\"-‐‑–`"
    "\u0301\u0307\u0327\u0345\u3099ｶﾞﾊﾟがㄱㅏㄴ가\u1100\u1161\u11a8漢 \u00a0\u2003\t\n\u200b"
)
TEXT = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=("Cs",))), max_size=40)
PHRASE = st.text(st.sampled_from(ODD), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "aspect", "found"),
    [
        ("the cre\u0300me bru\u0302le\u0301e was dry", "crème brûlée", "cre\u0300me bru\u0302le\u0301e"),
        ("the crème was dry", "cre\u0300me", "crème"),
        ("the chef\u2019s table was great", "chef's table", "chef\u2019s table"),
        ("the chef's table was great", "chef\u2019s table", "chef's table"),
        ("the \u201cold\u201d app", '"old" app', "\u201cold\u201d app"),
        ("our customer\u00a0service was slow", "customer service", "customer\u00a0service"),
        ("our customer \n service was slow", "Customer Service", "customer \n service"),
        ("free wi\u2011fi rocks", "wi-fi", "wi\u2011fi"),
        ("der \uff21pp ist gut", "app", "\uff21pp"),
        ("STRASSE und Straße", "straße", "STRASSE"),
        ("die Straße", "STRASSE", "Straße"),
        ("\ufb01ne \ufb01lter", "filter", "\ufb01lter"),
        ("the \uff76\uff9e\uff7d bill", "ガス", "\uff76\uff9e\uff7d"),
        ("visit İstanbul", "i\u0307stanbul", "İstanbul"),
        ("the app, the App", "App", "app"),
    ],
)
def test_span_of_equal_forms_is_of_the_text(text: str, aspect: str, found: str) -> None:
    span = find_aspect(text, aspect)
    assert span is not None
    assert text[span.start : span.end] == found
    assert has_aspect(text, aspect)


@pytest.mark.parametrize(
    ("text", "aspect"),
    [
        ("the app", "screen"),
        ("the app", ""),
        ("the app", "\u00a0"),
        ("half is ½", "2"),
        ("", "app"),
        ("caf\u00e9", "cafe"),
    ],
)
def test_span_of_a_missing_aspect_is_none(text: str, aspect: str) -> None:
    assert find_aspect(text, aspect) is None
    assert not has_aspect(text, aspect)


def test_span_prefers_whole_words_on_request() -> None:
    assert find_aspect("a happy app", "app") == (3, 6)
    assert find_aspect("a happy app", "app", whole_words=True) == (8, 11)
    assert find_aspect("a happy snapper", "app", whole_words=True) == (3, 6)


@settings(max_examples=400)
@given(text=TEXT, start=st.integers(0, 40), length=st.integers(1, 12), other=PHRASE)
def test_span_has_the_key_of_the_aspect(text: str, start: int, length: int, other: str) -> None:
    for aspect in (text[start : start + length], aspect_key(text[start : start + length]), other):
        span = find_aspect(text, aspect)
        assert has_aspect(text, aspect) == (span is not None)
        if span is None:
            continue
        assert 0 <= span.start < span.end <= len(text)
        found = text[span.start : span.end]
        if aspect.casefold() in text.casefold():
            assert aspect.casefold() in found.casefold()
        else:
            assert aspect_key(found) == aspect_key(aspect)


@settings(max_examples=300)
@given(before=TEXT, phrase=PHRASE, after=TEXT)
def test_span_is_found_in_any_normal_form(before: str, phrase: str, after: str) -> None:
    if not aspect_key(phrase):
        return
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        text = f"{before} x{unicodedata.normalize(form, phrase)}x {after}"
        assert has_aspect(text, f"x{phrase}x")


@settings(max_examples=300)
@given(text=TEXT, aspect=st.one_of(PHRASE, st.sampled_from(["s", "i", "fi", "SS", "a "])))
def test_span_of_a_casefold_match_is_the_first(text: str, aspect: str) -> None:
    """The occurrence of earlier releases: the first one of the casefolded aspect in the casefolded text."""
    at = text.casefold().find(aspect.casefold())
    if at >= 0:
        span = find_aspect(text, aspect)
        assert span is not None
        assert len(text[: span.start].casefold()) <= at < len(text[: span.start + 1].casefold())


@settings(max_examples=100)
@given(
    texts=st.lists(TEXT.map("x{}x".format), min_size=4, max_size=4), aspects=st.lists(PHRASE, min_size=4, max_size=4)
)
def test_ingest_keeps_the_rows_with_a_span(texts: list[str], aspects: list[str]) -> None:
    aspects = [aspect.strip() or "x" for aspect in aspects]
    raw = pl.DataFrame(
        {"row": range(4), "text": texts, "aspect": aspects, "label": "0"}
        | dict.fromkeys(("segment", "observed_at", "source", "unit")),
        schema=RAW,
    )
    valid, bad = validate(raw, uri="rows.csv", source="rows.csv", observed_at=datetime(2026, 11, 30, tzinfo=UTC))
    assert valid["row"].to_list() == [row for row in range(4) if has_aspect(texts[row], aspects[row])]
    assert set(bad["reason"]) <= {"aspect_not_in_text"}


def test_stretches_of_a_key_are_independent() -> None:
    """Every character that normalisation joins with, or sorts against, the one before it continues a stretch."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<") and unicodedata.is_normalized("NFC", character):
            assert continues(chr(int(parts[1], 16))), hex(code)
        if not continues(character):
            assert unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) == 0, hex(code)


def test_span_in_a_pile_of_marks_is_quick() -> None:
    """Marks on one character are sorted in quadratic time, so a long pile is compared by case alone."""
    pile = "e" + "\u0301\u0f73\u0316" * 100_000
    began = time.process_time()
    assert not has_aspect(f"the {pile} app", "an\u00a0app")
    assert has_aspect(f"the {pile} app", "App")
    assert time.process_time() - began < 2
