"""Floods of near-identical texts: found, accounted for, and told from what repeats every day."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from monitoring.traffic.floods import MIN_FLOOD_ROWS, find_floods, flood_reasons
from tests.unit.monitoring.traffic.frames import frame, hours

WORDS = ["".join(letters) for letters in product("bdfgklmnprst", "aeiou", "bdfglmn")]
NAMES = [f"{word}son" for word in WORDS[::4]]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 9, replace=False)) for _ in range(count)]


def copies(count: int) -> list[str]:
    """Texts that differ in a name and a number."""
    return [
        f"Dear support, my order {k} for {NAMES[k % 100]} never came and the app shows an empty page again"
        for k in range(count)
    ]


def window(*parts: list[str], units: int | None = None) -> pl.DataFrame:
    rows = [text for part in parts for text in part]
    senders = [f"u{k}" for k in range(len(rows))]
    if units is not None:
        last = len(parts[-1])
        senders[-last:] = [f"bot{k % units}" for k in range(last)]
    return frame(hours(1), senders, rows)


@pytest.mark.parametrize("units", [1, 40])
def test_flood_is_found_whoever_sends_it(units: int) -> None:
    rows = window(texts(700), copies(80), units=units)
    found = find_floods(rows, window(texts(500, seed=1)))
    assert [(flood.rows, flood.units) for flood in found.found] == [(80, units)]
    assert found.removed_from(rows)["text"].to_list() == texts(700)


def test_two_floods_are_told_apart() -> None:
    other = [f"win a free phone today at our shop, code {k}" for k in range(50)]
    found = find_floods(window(texts(500), other, copies(90)), None)
    assert [flood.rows for flood in found.found] == [90, 50]


def test_varied_texts_are_no_flood() -> None:
    assert find_floods(window(texts(800)), None).found == ()
    few_words = [" ".join(np.random.default_rng(k).choice(WORDS[:15], 8)) for k in range(800)]
    assert find_floods(window(few_words), None).found == ()


def test_usual_repetition_is_no_flood() -> None:
    rows = window(texts(500), copies(60))
    assert find_floods(rows, window(texts(500, seed=1), copies(40))).found == ()
    every_text_repeats = [text for text in texts(25) for _ in range(40)]
    assert find_floods(window(every_text_repeats), None).found == ()


def test_few_copies_and_redacted_rows_are_no_flood() -> None:
    assert find_floods(window(texts(100), copies(MIN_FLOOD_ROWS - 1)), None).found == ()
    redacted = window(copies(100)).with_columns(text=pl.lit(None, pl.String))
    assert find_floods(redacted, None).found == ()
    assert find_floods(redacted.clear(), None).found == ()


def test_reason_scales_sampled_rows_to_total() -> None:
    found = find_floods(window(texts(400), copies(100), units=1), None)
    (reason,) = flood_reasons(found, excluded=True, total=50_000, read=500)
    assert reason.kind == "flood"
    assert reason.sentence == (
        "10000 of 50000 predictions (20%) have nearly the same text, from 1 unit; "
        "they are left out of tests, estimates and the reference."
    )
    assert "judged with the rest" in flood_reasons(found, excluded=False, total=500, read=500)[0].sentence
