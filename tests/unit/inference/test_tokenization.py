"""Pairs that fit are encoded exactly as transformers encodes them; others are cut around the aspect."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from absa.errors import IntegrityError
from absa.inference.aspect_span import find_aspect
from absa.inference.excerpt import first_kept, up_to_aspect
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import find_base
from absa.task import TaskSpec

MAX_TOKENS = 32
TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=300)


@pytest.fixture(scope="module")
def tokenizer_file() -> Path:
    return find_base("minilm-l6") / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> PairTokenizer:
    return PairTokenizer.from_file(tokenizer_file, MAX_TOKENS)


@pytest.fixture(scope="module")
def slow(tokenizer_file: Path) -> PairTokenizer:
    return PairTokenizer.from_file(tokenizer_file, MAX_TOKENS, fast=False)


@pytest.fixture(scope="module")
def reference(tokenizer_file: Path):
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(str(tokenizer_file.parent))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT, aspect=st.text(alphabet="abcdefg é漢-!", min_size=1, max_size=20))
def test_pair_that_fits_equals_transformers(text: str, aspect: str, tokenizer: PairTokenizer, reference) -> None:
    """A text without the aspect that is too long keeps its start, which is what transformers keeps too."""
    (ours,) = tokenizer.encode([(text, aspect)])
    theirs = reference(text, aspect, truncation="only_first", max_length=MAX_TOKENS)
    whole = reference(text, aspect)["input_ids"]
    assert ours.truncated == (len(whole) > MAX_TOKENS)
    if not ours.truncated or find_aspect(text, aspect) is None:
        assert ours.input_ids.tolist() == theirs["input_ids"]
        assert ours.token_type_ids.tolist() == theirs["token_type_ids"]
        assert ours.tokens == len(theirs["input_ids"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_plain_text_equals_transformers(text: str, tokenizer: PairTokenizer, slow: PairTokenizer, reference) -> None:
    theirs = reference(text, truncation=True, max_length=MAX_TOKENS)
    for (ours,) in (tokenizer.encode([(text, None)]), slow.encode([(text, None)])):
        assert ours.input_ids.tolist() == theirs["input_ids"]
        assert ours.token_type_ids.tolist() == [0] * len(theirs["input_ids"])
        assert ours.truncated == (len(reference(text)["input_ids"]) > MAX_TOKENS)


@pytest.mark.parametrize("fast", [True, False])
def test_long_text_keeps_its_start_beside_topic(fast: bool, tokenizer_file: Path) -> None:
    task = TaskSpec(name="topics", input="text+topic", labels=("no", "yes"))
    topics = PairTokenizer.from_file(tokenizer_file, MAX_TOKENS, fast=fast, task=task)
    start, late = topics.encode([("word " * 200 + "refund", "refund"), ("word " * 200, "refund")])
    assert (start.truncated, start.tokens) == (True, MAX_TOKENS)
    assert start.input_ids.tolist() == late.input_ids.tolist()


@pytest.mark.parametrize("phrases", [None, ["app", "wi-fi", "app", "app"]])
def test_columns_are_encoded_like_rows(phrases: list[str] | None, tokenizer: PairTokenizer) -> None:
    texts = ["the app is slow", "wi-fi", "words " * 40 + "app", ""]
    apart = tokenizer.encode_apart(texts, phrases)
    assert apart is not None
    rows = tokenizer.encode([(text, phrases and phrases[k]) for k, text in enumerate(texts)])
    for row, start, length in zip(rows, apart.text_starts, apart.text_lengths, strict=True):
        kept = row.input_ids[row.token_type_ids == 0][1:-1]
        assert kept.tolist() == apart.text_ids[start : start + length].tolist()


HARD = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from(" .,-'#@[]ab é\u0301ßİﬁ漢字\t\n\u00a0\u200b\ufffd😍\u200d"),
    ),
    max_size=120,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(st.one_of(HARD, st.sampled_from(["[SEP]", "[CLS] a[MASK]b", ""])), HARD), max_size=4),
    spans=st.lists(st.tuples(HARD, st.integers(0, 100), st.integers(1, 9)), max_size=3),
)
def test_fast_tokenizer_equals_the_reference(
    pairs: list[tuple[str, str]], spans: list[tuple[str, int, int]], tokenizer: PairTokenizer, slow: PairTokenizer
) -> None:
    assert (tokenizer.is_fast, slow.is_fast) == (True, False)
    pairs += [(text, text[start : start + length]) for text, start, length in spans]
    for ours, theirs in zip(tokenizer.encode(pairs), slow.encode(pairs), strict=True):
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()
        assert ours.token_type_ids.tolist() == theirs.token_type_ids.tolist()
        assert ours.truncated == theirs.truncated


def test_reference_tokenizer_encodes_without_fast_one(
    tokenizer_file: Path, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nanotoken", None)
    without = PairTokenizer.from_file(tokenizer_file, MAX_TOKENS)
    assert not without.is_fast
    pair = ("The Café is great", "Café")
    assert without.encode([pair])[0].input_ids.tolist() == tokenizer.encode([pair])[0].input_ids.tolist()


def test_long_text_without_the_aspect_keeps_its_start(tokenizer: PairTokenizer) -> None:
    long, short = tokenizer.encode([("first " + "word " * 200 + "last", "app store"), ("first word", "app store")])
    assert (long.tokens, long.truncated, short.truncated) == (MAX_TOKENS, True, False)
    aspect = short.input_ids[short.token_type_ids == 1].tolist()
    assert long.input_ids[long.token_type_ids == 1].tolist() == aspect
    assert long.input_ids[:3].tolist() == short.input_ids[:3].tolist()


WORDS = st.lists(
    st.sampled_from(
        ["we", "walked", "along", "antidisestablishment", "river,", "don't", "(and)", "漢字", "Café", "tables"]
    ),
    max_size=60,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=WORDS, after=WORDS, aspect=st.sampled_from(["waiter", "mobile app", "wi-fi", "字", "able"]))
def test_excerpt_holds_the_aspect_in_its_middle(
    before: list[str], after: list[str], aspect: str, tokenizer: PairTokenizer
) -> None:
    text = " ".join([*before, aspect, *after])
    whole = PairTokenizer(tokenizer._tokenizer, tokenizer._overlong, 10_000)
    (kept,), (every, named) = tokenizer.encode([(text, aspect)]), whole.encode([(text, aspect), (aspect, aspect)])
    ours, theirs = (_text_ids(each.input_ids.tolist(), each.token_type_ids.tolist()) for each in (kept, every))
    assert kept.truncated == (every.tokens > MAX_TOKENS)
    assert kept.tokens == min(every.tokens, MAX_TOKENS)
    starts = [k for k in range(len(theirs) - len(ours) + 1) if theirs[k : k + len(ours)] == ours]
    assert starts
    wanted = _text_ids(named.input_ids.tolist(), named.token_type_ids.tolist())
    if aspect in ("waiter", "mobile app", "wi-fi"):  # the others are in words of the list too
        at = next(k for k in range(len(ours)) if ours[k : k + len(wanted)] == wanted)
        left, right = at, len(ours) - at - len(wanted)
        assert abs(left - right) <= 1 or starts[0] == 0 or starts[-1] == len(theirs) - len(ours)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=WORDS, after=WORDS, aspect=st.sampled_from(["waiter", "tab", "alk", "ver", "字", "and", "afé", "n't"]))
def test_aspect_is_counted_where_its_tokens_are(
    before: list[str], after: list[str], aspect: str, tokenizer: PairTokenizer
) -> None:
    text = " ".join([*before, f"x{aspect}x", *after])
    span = find_aspect(text, aspect, whole_words=True)
    assert span is not None
    encoding = tokenizer._tokenizer.encode(text, add_special_tokens=False)
    touched = [k for k, (start, end) in enumerate(encoding.offsets) if start < span.end and end > span.start]
    first, named = tokenizer._fast_counts(up_to_aspect(text, aspect))
    assert first <= touched[0]
    assert touched[-1] < first + named


@pytest.mark.parametrize(
    ("before", "named", "length", "room", "first"),
    [
        (0, 1, 50, 11, 0),
        (5, 1, 50, 11, 0),
        (20, 1, 50, 11, 15),
        (49, 1, 50, 11, 39),
        (20, 30, 60, 11, 20),
        (0, 0, 50, 1, 0),
    ],
)
def test_excerpt_is_centred_within_the_text(before: int, named: int, length: int, room: int, first: int) -> None:
    assert first_kept(before, named, length, room) == first


def test_opposite_reviews_of_a_late_aspect_differ(tokenizer: PairTokenizer) -> None:
    start = "we walked along the river before lunch " * 30
    good, bad = tokenizer.encode([(f"{start}. the waiter was {word}", "waiter") for word in ("kind", "awful")])
    assert good.truncated
    assert bad.truncated
    assert good.input_ids.tolist() != bad.input_ids.tolist()


def _text_ids(ids: list[int], types: list[int]) -> list[int]:
    return ids[1 : types.index(1) - 1]


def test_long_aspect_is_shortened_without_touching_neighbours(
    tokenizer: PairTokenizer,
) -> None:
    overlong = "word " * 200
    rows = tokenizer.encode([("a fine app", "app"), (overlong, overlong), ("slow sync", "sync")])
    assert rows[1].tokens == MAX_TOKENS
    for row, pair in ((rows[0], ("a fine app", "app")), (rows[2], ("slow sync", "sync"))):
        assert row.input_ids.tolist() == tokenizer.encode([pair])[0].input_ids.tolist()


def test_rows_with_and_without_phrase_share_call(tokenizer: PairTokenizer) -> None:
    pairs = [("a fine app", "app"), ("a fine app", None), ("word " * 200, None)]
    for together, pair in zip(tokenizer.encode(pairs), pairs, strict=True):
        assert together.input_ids.tolist() == tokenizer.encode([pair])[0].input_ids.tolist()


def test_row_takes_two_bytes_per_token_plus_type(tokenizer: PairTokenizer) -> None:
    (row,) = tokenizer.encode([("a fine app", "app")])
    assert (row.input_ids.itemsize, row.token_type_ids.itemsize) == (2, 1)


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_file_that_is_no_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        PairTokenizer.from_file(path)
