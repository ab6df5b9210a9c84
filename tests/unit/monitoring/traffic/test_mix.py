"""Units that join and leave, as shares of the rows."""

import polars as pl

from monitoring.traffic.mix import mix_of, mix_reasons
from tests.unit.monitoring.traffic.frames import frame, hours

REGULAR = [f"u{k}" for k in range(40)]


def past(*units: str, windows: int = 5) -> pl.DataFrame:
    return pl.concat([frame(hours(k), [*units, *units]) for k in range(windows)])


def test_regular_units_are_not_notable() -> None:
    mix = mix_of(frame(hours(9), REGULAR), past(*REGULAR), None, None)
    assert mix is not None
    assert (mix.joined, mix.expected, mix.left) == (0.0, 0.0, 0.0)
    assert mix_reasons(mix) == ()


def test_large_joiner_is_named_by_segment_alone() -> None:
    joiner = frame(hours(9), ["secret-id"] * 20, segment="retail")
    mix = mix_of(pl.concat([frame(hours(9), REGULAR), joiner]), past(*REGULAR), None, None)
    (reason,) = mix_reasons(mix)
    assert reason.kind == "mix:joined"
    assert reason.sentence.startswith("33% of the predictions are for units that neither the reference")
    assert "of segment 'retail' sends 33%" in reason.sentence
    assert "secret-id" not in reason.sentence


def test_units_that_never_return_are_expected() -> None:
    once = pl.concat([frame(hours(k), [f"{k}-{i}" for i in range(40)]) for k in range(5)])
    mix = mix_of(frame(hours(9), [f"9-{i}" for i in range(40)]), once, None, None)
    assert mix is not None
    assert (mix.joined, mix.expected) == (1.0, 1.0)
    assert mix_reasons(mix) == ()


def test_many_small_joiners_are_notable_together() -> None:
    mix = mix_of(frame(hours(9), REGULAR + [f"new{k}" for k in range(10)]), past(*REGULAR), None, None)
    assert [reason.kind for reason in mix_reasons(mix)] == ["mix:joined"]


def days(first: int, *, at: range = range(8, 16), big: range = range(24)) -> pl.DataFrame:
    """Rows of two days' windows; a large unit sends only at the hours of `big`."""
    windows = [(hour, hours(24 * day + hour)) for day in (first, first + 1) for hour in at]
    return pl.concat([frame(window, REGULAR + (["big"] * 10 if hour in big else [])) for hour, window in windows])


def last_day(*, big: range) -> pl.DataFrame:
    return days(7, big=big).filter(pl.col("window_start") >= hours(24 * 8).start)


def left_of(reference: pl.DataFrame, last: pl.DataFrame) -> float:
    mix = mix_of(frame(hours(24 * 8 + 15), REGULAR), reference, reference, last)
    assert mix is not None
    return mix.left


def test_steady_unit_that_stops_has_left() -> None:
    reference = days(1)
    mix = mix_of(frame(hours(24 * 8 + 15), REGULAR), reference, reference, last_day(big=range(8, 11)))
    assert mix is not None
    assert mix.left == 160 / reference.height
    (reason,) = mix_reasons(mix)
    assert (reason.kind, "20% of the reference's" in reason.sentence) == ("mix:left", True)
    assert left_of(reference, last_day(big=range(8, 15))) == 0.0  # one window may be chance


def test_unit_that_left_long_ago_is_no_news() -> None:
    assert left_of(days(1), last_day(big=range(0))) == 0.0


def test_unit_of_other_hours_has_not_left() -> None:
    morning = range(8, 11)
    assert left_of(days(1, big=morning), last_day(big=morning)) == 0.0


def test_rare_unit_that_is_absent_has_not_left() -> None:
    reference = pl.concat([days(1), days(3, big=range(0)), days(10, big=range(0))])
    assert left_of(reference, last_day(big=range(8, 11))) == 0.0


def test_traffic_without_units_has_no_mix() -> None:
    nameless = frame(hours(9), REGULAR).with_columns(unit_given=pl.lit(value=False))
    assert mix_of(nameless, past(*REGULAR), None, None) is None
    assert mix_reasons(None) == ()
