"""Figures of F1 over minutes: pooled over seeds, judged against the peer of the same budget."""

from benchmarks.training.train_minutes import OURS, PEER, name_of, rows_of


def cell(f1: float) -> dict[str, float]:
    return {"f1": f1, "epochs": 2.0, "wall_s": 58.0, "took_s": 70.0}


def test_each_budget_is_judged_beside_peer() -> None:
    cells = {name_of("bundled", 60, OURS, seed): cell(f1) for seed, f1 in enumerate((0.70, 0.74, 0.72))}
    cells |= {name_of("bundled", 60, PEER, 0): cell(0.71), name_of("bundled", 120, OURS, 0): cell(0.75)}
    rows = {(row.case, row.metric): row for row in rows_of(cells, "peer")}
    f1 = rows[f"bundled, 60 s, {OURS}", "f1"]
    assert (f1.value, f1.low, f1.high, f1.runs) == (0.72, 0.7, 0.74, 3)
    ahead = rows["bundled, 60 s", "f1 ahead of the peer"]
    assert (ahead.value, ahead.met) == (0.01, True)
    assert ("bundled, 120 s", "f1 ahead of the peer") not in rows
    assert rows[f"bundled, 60 s, {PEER}", "f1"].peer == "peer"
