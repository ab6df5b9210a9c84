"""Reserve for the phases after training, and what judging does with the time that is left."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.training.reserve import Reserve, fitting_ladder, judged_in_time, ladder_share, most_test_rows


def test_enough_time_judges_every_case() -> None:
    rows, cases = judged_in_time(300.0, left_s=40.0, cases=60)
    assert cases == 60
    assert rows > most_test_rows(60.0, champion=False)


@pytest.mark.parametrize("left_s", [2.0, 5.0, 10.0, 20.0])
@pytest.mark.parametrize("speed", [50.0, 150.0, 1_000.0])
def test_judged_rows_fit_into_the_time(speed: float, left_s: float) -> None:
    rows, cases = judged_in_time(speed, left_s=left_s, cases=60)
    assert 10 <= cases <= 60
    if rows > 200 and cases > 10:
        assert (rows + 20 * cases) / speed <= left_s + 1e-6


def test_no_time_judges_the_fewest() -> None:
    assert judged_in_time(100.0, left_s=-3.0, cases=60) == (200, 10)


def make_reserve(folder: Path, budget_s: float = 300.0) -> Reserve:
    return Reserve(folder / "times.json", budget_s=budget_s)


def test_slow_packaging_scales_the_other_phases(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path)
    before = reserve.least_after_s()
    reserve.record("package", 16.0 * reserve.estimate_s("package"))
    assert reserve.least_after_s() == pytest.approx(8.0 * before)


def test_slow_judging_scales_registration(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path)
    before = reserve.estimate_s("register")
    reserve.record("package", 16.0 * reserve.estimate_s("package"))
    reserve.record("judge", 2.0 * make_reserve(tmp_path / "none").estimate_s("judge"))
    assert reserve.estimate_s("register") == pytest.approx(2.0 * before)


def test_measured_phase_replaces_the_estimate(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path)
    reserve.record("package", 30.0)
    reserve.record("judge", 7.0)
    assert reserve.estimate_s("judge") == 7.0
    assert reserve.least_after_s() > 1.3 * 7.0


def test_next_run_uses_measurements_of_failed_run(tmp_path: Path) -> None:
    make_reserve(tmp_path).record("package", 17.0)  # and nothing else was measured
    later = make_reserve(tmp_path)
    assert later.packaging_s() == pytest.approx(1.3 * 17.0)
    before_s = later.estimate_s("register")
    later.record("package", 34.0)
    assert later.estimate_s("register") == pytest.approx(before_s * 2**0.75)


@pytest.mark.parametrize("content", ["", "[]", '{"package": "x"}', '{"seconds": 3}', "{"])
def test_unreadable_measurements_are_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "times.json").write_text(content)
    assert make_reserve(tmp_path).packaging_s() == make_reserve(tmp_path / "none").packaging_s()


def test_more_rows_need_time_up_to_share(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path, budget_s=600.0)
    few, many, most = (reserve.after_s(rows=rows, cases=10) for rows in (200, 2_000, 10**7))
    assert few < many < most == pytest.approx(few + 30.0)
    reserve.record_speed(100.0)
    assert reserve.after_s(rows=1_200, cases=10) == pytest.approx(few + 10.0)


def test_sufficient_budget_exceeds_the_one_that_failed(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path, budget_s=60.0)
    assert reserve.sufficient_budget_s(used_s=60.0) >= 75.0
    reserve.record("package", 60.0)
    assert reserve.sufficient_budget_s(used_s=60.0) >= 150.0


@pytest.mark.parametrize(
    ("budget_s", "least_s", "fitting"),
    [(900.0, 26.0, [6, 3, 2]), (100.0, 26.0, [6, 3]), (30.0, 26.0, [6]), (30.0, 60.0, [6])],
)
def test_budget_holds_the_largest_sizes(budget_s: float, least_s: float, fitting: list[int]) -> None:
    assert fitting_ladder((6, 3, 2), budget_s=budget_s, least_s=least_s) == fitting


def test_shares_of_a_ladder_use_all_time() -> None:
    left_s, sizes = 900.0, [6, 3, 2]
    parts = []
    for at in range(len(sizes)):
        parts.append(left_s * ladder_share(sizes[at:]))
        left_s -= parts[-1]
    assert left_s == pytest.approx(0.0)
    assert parts == pytest.approx([450.0, 900.0 * 4 / 14, 900.0 * 3 / 14])


def test_champion_halves_the_most_test_rows() -> None:
    assert most_test_rows(200.0, champion=True) == most_test_rows(100.0, champion=False)


def test_measurements_of_two_threads_are_both_stored(tmp_path: Path) -> None:
    reserve = make_reserve(tmp_path)
    with ThreadPoolExecutor(4) as several:
        for done in [several.submit(reserve.record, phase, 1.5) for phase in ("start", "package", "judge", "register")]:
            done.result()
    assert json.loads((tmp_path / "times.json").read_text()) == dict.fromkeys(
        ("start", "package", "judge", "register"), 1.5
    )
