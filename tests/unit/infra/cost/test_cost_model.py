"""Cost of predictions, trainings and months, and the chosen set-up."""

import json
from typing import Any

import pytest

from absa.records.cost import Cost
from infra.capacity.trace import Trace, shipped_traces
from infra.cost.choose import Floors, NoSetupError, cheapest, savings
from infra.cost.cost_report import basis, bill, ladder, record, worth
from infra.cost.figures import Figures, figures_of
from infra.cost.month import Quantities, month, task_hours, training_usd
from infra.cost.prices import read_prices
from infra.cost.setup import Setup, batch_usd_per_million, setups, unmeasured

PRICES = read_prices()
DAY = shipped_traces()["daily"]


def row(case: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    return {"case": case, "metric": metric, "value": value, **more}


def results(*rows: dict[str, Any], **others: Any) -> dict[str, Any]:
    stamp = {"date": "2026-01-01", "commit": "abc", "machine": {"cpu": "test", "cores": 2}}
    return {"serving": stamp | {"rows": list(rows)}, **{name: stamp | {"rows": list(v)} for name, v in others.items()}}


BIG = (
    row("big int8, saturation", "worker_cpu_per_request", 2_000.0),
    row("big int8, saturation", "requests_per_s", 1_000.0),
    row("big int8, open loop at 50 % of saturation", "p50", 4.0),
    row("big int8, open loop at 50 % of saturation", "p99", 18.0),
)
SMALL = (row("small int8, saturation", "worker_cpu_per_request", 200.0),)
CACHE = row("cache hit", "requests_per_s", 20_000.0)
QUALITY = (row("big int8", "pos_neg_f1", 0.80), row("small int8", "f1", 0.74))


def both() -> Figures:
    return figures_of(
        results(*BIG, *SMALL, CACHE, students=QUALITY, batch=[row("big int8, 1 M rows", "rows_per_s", 2_000)])
    )


def test_figures_are_found_by_case_without_peers() -> None:
    figures = figures_of(
        results(*BIG, CACHE, students=QUALITY, batch=[
            row("big int8, 1 M rows", "rows_per_s", 100, peer="pipeline"),
            row("big int8, 1 M rows", "rows_per_s", 2_000),
        ])
    )  # fmt: skip
    (big,) = figures.models
    assert big.cpu_s == pytest.approx(0.002)
    assert (big.p50_ms, big.p99_ms, big.f1) == (4.0, 18.0, 0.80)
    assert big.batch_rows_per_core_s == 1_000
    assert figures.hit_cpu_s == pytest.approx(1e-4)
    assert figures.missing == ()


def test_missing_part_is_reported_in_sentence() -> None:
    assert "benchmark-serving" in figures_of({}).missing[0]
    said = " ".join(
        figures_of(results(*SMALL, row("cut, untrained, saturation", "worker_cpu_per_request", 9.0))).missing
    )
    for word in ("cache", "batch", "p99", "F1", "cannot be chosen"):
        assert word in said


def test_a_million_predictions_cost_their_cpu_time() -> None:
    found = setups(both(), PRICES)
    one = next(each for each in found if each.model.name == "big int8" and each.host.label == "c7g.xlarge")
    assert one.usd_per_million == pytest.approx(0.002 * 1e6 / 3_600 * 0.145 / 4)
    assert f"{one.usd_per_million:.4f}" in one.arithmetic
    assert one.capacity == pytest.approx(2_000)


def test_load_cache_and_speed_change_price() -> None:
    def price(**more: Any) -> float:
        found = setups(both(), PRICES, **more)
        return next(e for e in found if e.model.name == "big int8" and e.host.label == "c7g.xlarge").usd_per_million

    assert price(load=0.5) == pytest.approx(2 * price())
    assert price(speeds={"c7g": 2.0}) == pytest.approx(price() / 2)
    assert price(hit_share=1.0) == pytest.approx(price() / 20)


def test_batch_costs_every_core_busy() -> None:
    setup = next(e for e in setups(both(), PRICES) if e.model.name == "big int8" and e.host.label == "c7g.xlarge")
    assert batch_usd_per_million(setup.model, setup.host) == pytest.approx(1e6 / 1_000 / 3_600 * 0.145 / 4)


def planned(figures: Figures | None = None) -> list[Setup]:
    return setups(figures or both(), PRICES, load=0.6)


def choose(**floors: Any) -> Setup:
    return cheapest(planned(), Floors(**floors), PRICES, Quantities(), DAY)


def test_the_cheapest_that_is_good_enough_is_chosen() -> None:
    assert choose().model.name == "small int8"
    chosen = choose(f1=0.78)
    assert chosen.model.name == "big int8"
    costs = [
        month(e, PRICES, Quantities(), DAY).usd for e in planned() if e.model.name == "big int8" and not e.host.spot
    ]
    assert month(chosen, PRICES, Quantities(), DAY).usd == min(costs)


def test_spot_is_for_those_who_ask_for_it() -> None:
    large = DAY.scaled(load=20)
    asked = [
        cheapest(planned(), Floors(spot=spot, f1=0.78), PRICES, Quantities(), large).host.spot for spot in (False, True)
    ]
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("floors", "reason"),
    [
        ({"f1": 0.9}, "0.9 or more, got big int8 0.800, small int8 0.740"),
        ({"f1": 0.78, "p99_ms": 5}, "at most 5 ms .* got 18.0 ms"),
    ],
)
def test_no_sufficient_set_up_is_refused_with_reason(floors: dict[str, float], reason: str) -> None:
    with pytest.raises(NoSetupError, match=reason):
        choose(**floors)


def test_estimate_without_measurement_or_training_is_refused() -> None:
    with pytest.raises(NoSetupError, match="benchmark-serving"):
        cheapest([], Floors(), PRICES, Quantities(), DAY)
    cut = figures_of(results(row("cut, untrained, saturation", "worker_cpu_per_request", 9.0)))
    with pytest.raises(NoSetupError, match="untrained"):
        cheapest(planned(cut), Floors(), PRICES, Quantities(), DAY)


def test_p99_at_load_grows_from_measured() -> None:
    def p99(load: float) -> float:
        found = setups(figures_of(results(*SMALL)), PRICES, load=load)
        return next(e for e in found if e.host.label == "c7g.xlarge").p99_ms

    assert choose(f1=0.78).p99_ms >= 18.0
    assert p99(0.9) > 2 * p99(0.3)


def test_idle_month_adds_up_without_measurement() -> None:
    idle = month(unmeasured(PRICES), PRICES, Quantities())
    assert idle.requests == 0
    assert idle.usd == pytest.approx(sum(line.usd for line in idle.lines))
    router = idle.lines[0]
    assert router.usd == pytest.approx(2 * 730 * router.usd_each)
    assert [line.what for line in idle.lines if line.unverified] == ["alarms"]


def test_firewall_is_paid_by_rule_and_request() -> None:
    setup = planned()[0]

    def usd(profile: Trace | None, firewalls: int) -> float:
        return month(setup, PRICES, Quantities(firewalls=firewalls), profile).usd

    assert usd(None, 1) - usd(None, 0) == pytest.approx(5 + 1)
    requests = month(setup, PRICES, Quantities(), DAY).requests
    assert usd(DAY, 1) - usd(DAY, 0) == pytest.approx(6 + 0.6 * requests / 1e6)


def test_tasks_follow_profile_above_floor() -> None:
    setup = Setup(model=both().models[0], host=unmeasured(PRICES).host, load=0.5)  # 1,000 requests/s a task
    half = Trace(name="half", at_s=(0, 43_200, 43_201, 86_400), rate_per_s=(5_000, 5_000, 0, 0))
    assert task_hours(half, setup, Quantities(floor=2)) == pytest.approx((5 + 2) / 2 * 730, rel=0.002)
    assert task_hours(half, setup, Quantities(floor=2, follow_load=False)) == pytest.approx(5 * 730)


def test_a_profile_longer_than_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 24 hours"):
        month(planned()[0], PRICES, Quantities(), DAY.scaled(time=2))


def test_training_pays_budget_and_machine_wait() -> None:
    assert training_usd(PRICES, Quantities()) == pytest.approx(0.38205 * (900 + 240) / 3_600)
    with pytest.raises(ValueError, match="no spot price"):
        training_usd(PRICES, Quantities(gpu="p5.4xlarge"))


def test_saving_equals_reduction_of_month() -> None:
    base, found = savings(both(), planned(), PRICES, Quantities(), DAY.scaled(load=10))
    by_name = {saving.what: saving.usd for saving in found}
    assert by_name["int8"] is None  # fp32 was not measured
    assert all(usd is not None and 0 < usd < base for name, usd in by_name.items() if name != "int8")
    with_fp32 = figures_of(results(*BIG, row("big fp32, saturation", "worker_cpu_per_request", 5_000.0)))
    _, found = savings(with_fp32, planned(with_fp32), PRICES, Quantities(), DAY.scaled(load=10))
    int8 = next(saving for saving in found if saving.what == "int8")
    assert int8.usd is not None
    assert int8.usd > 0


def test_record_holds_choice_and_figures() -> None:
    setup, quantities = choose(f1=0.78), Quantities()
    busy, idle = month(setup, PRICES, quantities, DAY), month(setup, PRICES, quantities)
    found = record(setup, both(), PRICES, busy, idle, quantities, profile="daily")
    read = json.loads(json.dumps(Cost(at="2026-11-24T00:00:00.000000Z", **found).to_json()))
    assert Cost.from_json(read).usd_per_month == read["usd_per_month"]
    assert read["schema_version"] == 1
    assert read["projected"] is True
    assert read["usd_per_training"] == training_usd(PRICES, quantities)
    assert sum(line["usd"] for line in read["lines"]) == pytest.approx(read["usd_per_month"])
    assert read["unverified_prices"] == ["cloudwatch-alarm"]


def test_text_shows_each_line_and_marks_unsourced_prices() -> None:
    idle = month(unmeasured(PRICES), PRICES, Quantities())
    lines = [*bill(idle)]
    assert len(lines) == len(idle.lines) + 1
    assert [line for line in lines if "unverified" in line] == [line for line in lines if " alarms " in line]
    assert any("arithmetic" not in line and "us of CPU" in line for line in ladder(planned()))
    assert "unverified: cloudwatch-alarm" in " ".join(basis(both(), PRICES))
    base, found = savings(both(), planned(), PRICES, Quantities(), DAY)
    assert "unknown" in " ".join(worth(base, found))
