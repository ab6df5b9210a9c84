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


def test_steady_unit_that_is_absent_has_left() -> None:
    steady, rare = ["big"] * 10, ["rare"] * 10
    reference = pl.concat([frame(hours(k), REGULAR + steady + (rare if k == 0 else [])) for k in range(8)])
    last = pl.concat([frame(hours(24 + k), REGULAR) for k in range(8)])
    mix = mix_of(frame(hours(31), REGULAR), reference, reference, last)
    assert mix is not None
    assert mix.left == 80 / reference.height
    assert [reason.kind for reason in mix_reasons(mix)] == ["mix:left"]
    still = pl.concat([last, frame(hours(31), ["big"])])
    assert mix_reasons(mix_of(frame(hours(31), REGULAR), reference, reference, still)) == ()


def test_traffic_without_units_has_no_mix() -> None:
    nameless = frame(hours(9), REGULAR).with_columns(unit_given=pl.lit(value=False))
    assert mix_of(nameless, past(*REGULAR), None, None) is None
    assert mix_reasons(None) == ()
