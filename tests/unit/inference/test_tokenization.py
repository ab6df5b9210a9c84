"""Pairs are encoded exactly as transformers encodes them, and an aspect is never cut."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from absa.errors import IntegrityError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import find_base

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
def test_ids_and_types_equal_those_of_transformers(text: str, aspect: str, tokenizer: PairTokenizer, reference) -> None:
    (ours,) = tokenizer.encode([(text, aspect)])
    theirs = reference(text, aspect, truncation="only_first", max_length=MAX_TOKENS)
    assert ours.input_ids.tolist() == theirs["input_ids"]
    assert ours.token_type_ids.tolist() == theirs["token_type_ids"]
    assert ours.tokens == len(theirs["input_ids"])


HARD = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from(" .,-'#@[]ab é\u0301ßİﬁ漢字\t\n\u00a0\u200b\ufffd😍\u200d"),
    ),
    max_size=120,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(st.one_of(HARD, st.sampled_from(["[SEP]", "[CLS] a[MASK]b", ""])), HARD), max_size=4))
def test_the_fast_tokenizer_gives_what_the_reference_gives(
    pairs: list[tuple[str, str]], tokenizer: PairTokenizer, slow: PairTokenizer
) -> None:
    assert (tokenizer.is_fast, slow.is_fast) == (True, False)
    for ours, theirs in zip(tokenizer.encode(pairs), slow.encode(pairs), strict=True):
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()
        assert ours.token_type_ids.tolist() == theirs.token_type_ids.tolist()


def test_where_the_fast_tokenizer_is_not_installed_the_reference_encodes(
    tokenizer_file: Path, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nanotoken", None)
    without = PairTokenizer.from_file(tokenizer_file, MAX_TOKENS)
    assert not without.is_fast
    pair = ("The Café is great", "Café")
    assert without.encode([pair])[0].input_ids.tolist() == tokenizer.encode([pair])[0].input_ids.tolist()


def test_a_long_text_loses_its_end_and_the_aspect_stays(tokenizer: PairTokenizer) -> None:
    long, short = tokenizer.encode([("word " * 200 + "last", "app store"), ("word", "app store")])
    assert long.tokens == MAX_TOKENS
    aspect = short.input_ids[short.token_type_ids == 1].tolist()
    assert long.input_ids[long.token_type_ids == 1].tolist() == aspect


def test_an_aspect_that_fills_the_model_is_shortened_and_its_neighbours_are_not_touched(
    tokenizer: PairTokenizer,
) -> None:
    overlong = "word " * 200
    rows = tokenizer.encode([("a fine app", "app"), (overlong, overlong), ("slow sync", "sync")])
    assert rows[1].tokens == MAX_TOKENS
    for row, pair in ((rows[0], ("a fine app", "app")), (rows[2], ("slow sync", "sync"))):
        assert row.input_ids.tolist() == tokenizer.encode([pair])[0].input_ids.tolist()


def test_a_row_takes_two_bytes_a_token_and_one_for_its_type(tokenizer: PairTokenizer) -> None:
    (row,) = tokenizer.encode([("a fine app", "app")])
    assert (row.input_ids.itemsize, row.token_type_ids.itemsize) == (2, 1)


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_file_that_is_no_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        PairTokenizer.from_file(path)
