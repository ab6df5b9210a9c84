"""What a budget keeps for the phases after training, and what judging does with what is left."""

import pytest

from flows.reserve import judged_in_time, most_test_rows, reserve_s
from flows.settings import Settings


def test_with_time_enough_every_case_and_more_rows_than_there_are_planned() -> None:
    rows, cases = judged_in_time(300.0, left_s=40.0, cases=60)
    assert cases == 60
    assert rows > most_test_rows(60.0, champion=False)


@pytest.mark.parametrize("left_s", [2.0, 5.0, 10.0, 20.0])
@pytest.mark.parametrize("speed", [50.0, 150.0, 1_000.0])
def test_what_is_judged_fits_into_what_is_left_but_for_the_fewest(speed: float, left_s: float) -> None:
    rows, cases = judged_in_time(speed, left_s=left_s, cases=60)
    assert 10 <= cases <= 60
    if rows > 200 and cases > 10:
        assert (rows + 20 * cases) / speed <= left_s + 1e-6


def test_with_no_time_left_the_fewest_are_judged() -> None:
    assert judged_in_time(100.0, left_s=-3.0, cases=60) == (200, 10)


def test_a_large_test_side_and_a_champion_keep_more() -> None:
    settings = Settings(layers=None)
    few, many = (reserve_s(settings, 60.0, judged_rows=rows) for rows in (2_000, 20_000))
    assert many > few == reserve_s(settings, 60.0)
    assert reserve_s(settings, 60.0, judged_rows=20_000, champion=True) > many
    assert reserve_s(Settings(layers=2), 60.0) < few


def test_a_long_budget_keeps_a_share_of_itself() -> None:
    settings = Settings(layers=None)
    assert reserve_s(settings, 60.0) == reserve_s(settings, 180.0)
    assert reserve_s(settings, 900.0) == pytest.approx(67.5)
