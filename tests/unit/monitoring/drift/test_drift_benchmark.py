"""Rows and chain of the drift benchmark, at a small scale."""

import json
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import partial

import polars as pl
import pytest

from absa.data.traffic.feedback_habits import LATE_AND_BIASED
from absa.data.traffic.population import Flood
from absa.policies import StalenessPolicy
from benchmarks.monitoring.chain import Chain
from benchmarks.monitoring.drift import run_cells, save_cells
from benchmarks.monitoring.drift_curves import (
    between,
    found_table,
    loss_line,
    public_table,
    range_table,
    recurring_table,
    summary_table,
    traffic_table,
)
from benchmarks.monitoring.drift_traffic import SAMPLE, Traffic, load
from benchmarks.monitoring.live_cells import (
    CHAIN_H,
    LiveSource,
    bound,
    calm_chain,
    chain_rows,
    live_cells,
    rate_rows,
    window_pair,
)
from benchmarks.monitoring.live_traffic import HABITS, MONDAY, NO_CHANGE, Change, LiveTraffic, known_at, window_of
from benchmarks.monitoring.recurring_cells import chain_of, recurring_cells, slow_test
from monitoring.monitor import WatchedVersion, WatchSettings

KNOWN, NEW = load(SAMPLE / "feedback.csv"), load(SAMPLE / "new_area.csv")


def traffic(name: str = "together", **options) -> LiveTraffic:
    return LiveTraffic(KNOWN, NEW, replace(HABITS[name], events=options.pop("events", ())), **options)


@pytest.mark.parametrize("name", HABITS)
def test_hours_of_traffic_are_calibrated_bundled_rows(name):
    rows = traffic(name, seed=2).hours(8, 20)
    assert rows["request_id"].n_unique() == rows.height > 5_000
    assert set(rows["text"]) <= set(KNOWN["text"])
    assert (rows["unit_hash"].n_unique() == rows.height) == (name == "independent")
    told = rows.drop_nulls("feedback_label")
    right = (told["label"] == told["feedback_label"]).mean()
    assert right == pytest.approx(told["scores"].list.max().mean(), abs=0.05)
    natural = KNOWN["label"].value_counts(normalize=True).sort("label")["proportion"].to_list()
    found = rows["label"].value_counts(normalize=True).sort("label")["proportion"].to_list()
    assert found == pytest.approx(natural, abs=0.08)


def test_equal_hours_are_equal_in_any_period():
    assert traffic().hours(4, 5).equals(traffic().hours(3, 6).filter(pl.col("request_id").str.starts_with("000004")))
    assert traffic().first(300, 4).equals(traffic().hours(4, 5).head(300))


def test_changes_move_area_classes_and_truth():
    plain = traffic(seed=1).hours(8, 16)
    change = Change(new_share=0.2, negative_points=0.1, flipped=0.3, own_segment=True)
    changed = traffic(seed=1).hours(8, 16, change)
    area = changed["text"].is_in(NEW["text"].implode())
    assert area.mean() == pytest.approx(0.2, abs=0.03)
    assert area.equals(changed["segment"] == "games")
    known = traffic(seed=1).hours(8, 16, replace(change, own_segment=False))
    assert known["text"].equals(changed["text"])
    assert set(known["segment"]) == set(KNOWN["segment"])
    assert (changed["label"] == 0).mean() - (plain["label"] == 0).mean() == pytest.approx(0.1, abs=0.04)
    right = [(rows["label"] == rows["feedback_label"]).mean() for rows in (plain, changed)]
    assert right[0] - right[1] > 0.15


def test_flood_texts_differ_in_their_number_alone():
    flood = Flood(starts_s=8 * 3_600.0, requests=500)
    rows = traffic(events=(flood,)).hours(8, 9)
    copies = rows.filter(~pl.col("text").is_in(KNOWN["text"].implode()))
    assert copies.height == copies["text"].n_unique() == 500
    assert copies["text"].str.replace(r" No\. \d+$", "").n_unique() == 1
    assert copies["unit_hash"].n_unique() == 1


def test_feedback_is_known_once_it_has_come():
    rows = traffic(feedback=LATE_AND_BIASED).hours(8, 20)
    counts = [
        known_at(rows, MONDAY + timedelta(hours=hours))["feedback_label"].count() for hours in (8, 20, 44, 24 * 60)
    ]
    assert 0 == counts[0] < counts[1] < counts[2] < counts[3] <= rows["feedback_label"].count()
    audited = rows.filter(pl.col("feedback_source") == "labels")
    assert audited["sampling_probability"].unique().to_list() == [LATE_AND_BIASED.audit_share]


def test_chain_finds_new_area_after_reference():
    source = traffic("independent", seed=3)
    champion = WatchedVersion(version="1", champion_since=MONDAY, snapshot_at=MONDAY)
    chain = Chain(champion=champion, settings=WatchSettings(policy=StalenessPolicy(cycle="none")))
    judged = []
    for hour in range(8, 12):
        rows = source.first(400, hour, Change(new_share=0.0 if hour < 11 else 0.4))
        judged.append(chain.judge(window_of(hour, hour + 1), rows))
    assert judged[0].kinds == ["fresh", "reference_too_small"]
    assert not judged[2].alarms
    assert any(kind.startswith("drift:") for kind in judged[3].kinds)
    assert chain.reference is not None
    assert chain.reference.height == 1_200


SOURCE = LiveSource(known=KNOWN, new=NEW)


@pytest.mark.parametrize("kind", ["slow test", "windows of 500", "10 % from a new area"])
def test_live_cell_makes_shares_of_windows(kind):
    table = live_cells(1, 1, 1, found_runs=1)
    task, _, rows_of = next(cell for name, cell in table.items() if name.startswith("together") and kind in name)
    (row,) = rows_of({name: [float(value)] * 2 for name, value in task(SOURCE, 0).items()})
    assert (row.unit, row.runs) == ("share", 2)
    assert row.value in (0.0, 1.0)


def test_chain_without_history_counts_nothing_compared():
    assert calm_chain("late labels", 2, SOURCE, 0) == {"windows": 2, "compared": 0, "alarms": 0, "stale": 0}


def test_window_and_reference_are_of_like_hours():
    reference, window = window_pair(traffic(seed=3), (2_000, 1_000), (NO_CHANGE, Change(new_share=0.5)), seed=7)
    assert (reference.height, window.height) == (2_000, 1_000)
    hours = [set(rows["at"].dt.hour().to_list()) for rows in (reference, window)]
    assert hours[0] == hours[1] != set(range(24))
    assert window["at"].min() > reference["at"].max()
    assert set(reference["at"].dt.weekday()) == {1, 2, 3, 4, 5}
    new = NEW["text"].implode()
    assert not reference["text"].is_in(new).any()
    assert window["text"].is_in(new).mean() == pytest.approx(0.5, abs=0.1)


def test_rates_are_held_against_binomial_bound():
    assert bound(0.01, 500) == pytest.approx(0.0215, abs=0.0002)
    (good,) = rate_rows("case", 0.01, {"alarm": [0.0] * 490 + [1.0] * 10})
    (bad,) = rate_rows("case", 0.01, {"alarm": [0.0] * 489 + [1.0] * 11})
    assert (good.met, bad.met) == (True, False)
    rows = chain_rows("case", {"alarms": [9.0, 1.0], "stale": [0, 0], "compared": [200, 200], "windows": [224, 224]})
    assert [row.value for row in rows] == [10 / 400, 0.5, 400 / 448, 0.0]
    assert rows[0].met is False


def test_cells_that_are_done_are_not_repeated(capsys):
    saved: list[dict] = []
    cell = (lambda source, seed: {"alarm": 0.0}, 3, partial(rate_rows, "new", 0.01))
    ran: list[str] = []

    def repeat(name: str, _: object) -> list[dict[str, float]]:
        ran.append(name)
        return [{"alarm": 0.0}] * 3

    run_cells({"old": cell, "new": cell}, {"old": []}, repeat, lambda done: saved.append(dict(done)))
    assert ran == ["new"]
    assert [[row["runs"] for row in rows] for rows in saved[-1].values()] == [[3]]
    assert "false_alarms_at_1.0%" in capsys.readouterr().out


def test_processes_add_cells_to_one_file(tmp_path):
    file = tmp_path / "cells" / "drift.json"
    for name in ("first", "second"):
        save_cells(file, {name: []})
    assert json.loads(file.read_text()) == {"first": [], "second": []}


def test_tables_show_rates_peers_and_misses():
    found = {"low": 0.0, "high": 1.0, "runs": 500, "unit": "share"}
    case = "returning traffic, windows of 500, reference 2,000"
    rows = [
        {"case": case, "metric": "false_alarms_at_1.0%", "value": 0.04, "met": False, "target": "<= 0.02", **found},
        {"case": case, "metric": "false_alarms", "value": 0.5, "met": None, "peer": "evidently 0.7.23, tests", **found},
        {"case": "together traffic, new area grows by 1 % an hourly window, chain", "value": 0.05, "met": True,
         "metric": "changed_share_when_found_median", "target": "< 0.12", **found},
    ]  # fmt: skip
    table = traffic_table(rows).splitlines()
    assert table[0].endswith("| a quarter | evidently 0.7.23 |")
    assert "| returning | **4.0% of 500** | - | - | - | - | 50.0% |" in table
    assert found_table(rows).splitlines()[-1].endswith("| - | 5.0% of 500 |")
    assert "| together | window of 10,000 | - |" in range_table(rows)
    assert between("a\n<!-- x -->\nold\n<!-- /x -->\n", "x", "new") == "a\n<!-- x -->\n\nnew\n<!-- /x -->\n"


def test_every_cell_of_traffic_is_in_a_table():
    cells = live_cells(1, 1, 1, found_runs=1) | recurring_cells(1, 1, CHAIN_H, 1)
    found = defaultdict(lambda: [1.0])
    rows = [row.to_json() for _, _, rows_of in cells.values() for row in rows_of(found)]
    shown = "\n".join(table(rows) for table in (traffic_table, recurring_table, loss_line, range_table, found_table))
    assert shown.count("100.0% of ") + shown.count("found after 1 windows") == len(cells) - 2
    assert shown.count("2.0% of 50") == 2


def test_summary_names_ranges_peers_and_targets():
    def row(case: str, metric: str, value: float, **more: object) -> dict[str, object]:
        return {
            "case": case,
            "metric": metric,
            "value": value,
            "runs": 9,
            "unit": "share",
            "target": None,
            "commit": "c0ffee1",
        } | more

    rows = [row(f"no drift, windows of {n}, reference 2,000", "false_alarms_at_1%", n / 1e5, target="<= 0.02", met=True)
            for n in (100, 5000)]  # fmt: skip
    rows.append(row("no drift, windows of 100, reference 2,000", "false_alarms", 0.9, peer="evidently 0.7.23"))
    (line,) = summary_table(rows).splitlines()[2:]
    assert line.endswith("| 9 | 0.1% to 5.0% (Evidently 90.0%) | <= 0.02: met | c0ffee1 |")
    rows[1]["met"] = False
    assert "**missed**" in summary_table(rows)


def test_other_areas_have_estimate_beside_truth():
    whole = "all traffic from games, windows of 500"
    values = {
        ("10 % of traffic from games, windows of 1,000", "found_at_1%"): 0.98,
        (whole, "estimated_pos_neg_f1"): 0.6,
        (whole, "true_pos_neg_f1"): 0.5,
        (whole, "back_test_says_not_to_trust_it"): 0.25,
    }
    rows = [{"case": case, "metric": metric, "value": value} for (case, metric), value in values.items()]
    peer = {"case": "10 % of traffic from games, windows of 1,000", "metric": "found", "value": 0.1, "peer": "other"}
    assert public_table([*rows, peer]).splitlines()[2:] == ["| games | 98.0% | 0.60 | 0.50 | 25.0% |"]


def test_recurring_ids_alone_make_no_new_evidence():
    plain = Traffic(KNOWN, NEW, embed=False)
    assert slow_test(600, plain, 0) == {"alarm": False}
    assert chain_of(800, 2, plain, 0) == {"windows": 2, "compared": 0, "alarms": 0, "stale": 0}
