"""False alarms and detection of monitoring, beside other libraries' defaults; writes results/drift.json.

Every window is judged at 1 % false alarms over all columns together, as the monitor does it: four fifths of that for
the window itself and a fifth for the slow-drift test over the last eight. Independent rows are drawn here, live traffic
in live_cells.py. Finished cells are kept in results/cells with the commit they measured until all are there, so a run
that was cut short goes on where it was, and several processes can share the cells (`--cells`). `--peer nannyml` or
`--peer alibi_detect` adds that library's cells, from an environment that has it, polars, pydantic, scipy and pyarrow.
"""

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from absa.policies import StalenessPolicy
from benchmarks.figures import Row, commit, share, write_json, write_result
from benchmarks.monitoring.drift_peers import PEER, evidently_alarms, peers
from benchmarks.monitoring.drift_traffic import SAMPLE, Traffic, load
from benchmarks.monitoring.live_cells import CHAIN_H, QUARTER_WINDOWS, LiveSource, live_cells, peer_cells
from benchmarks.monitoring.live_traffic import KnownEmbedder
from benchmarks.monitoring.recurring_cells import recurring_cells
from monitoring.drift.detect import SLOW_COLUMNS, SLOW_SHARE, detect_drift
from monitoring.drift.sample import Sample, concat_samples
from monitoring.drift.sequential import RightAnswers, detect_slow_loss
from monitoring.parts import parts_of
from monitoring.performance import back_test, estimate, measure

RESULTS = Path(__file__).parents[1] / "results" / "drift.json"
RATE = 0.01
RECENT = 8
QUARTER = (0.25, 0.25, 0.5)
Task = Callable[[Traffic, int], dict[str, float]]
Found = dict[str, list[float]]
Cell = tuple[Callable[[Any, int], dict[str, float]], int, Callable[[Found], list[Row]]]
Results = dict[str, list[dict[str, Any]]]


def judged(row: Row, met: bool) -> Row:
    """The row with its target judged."""
    return Row(**{**vars(row), "met": bool(met)})


def quantiles(case: str, metric: str, values: list[float], unit: str, target: str | None = None) -> Row:
    """The median with the 5 % and 95 % quantiles."""
    low, middle, high = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    return Row(case=case, metric=metric, value=middle, low=low, high=high, runs=len(values), unit=unit, target=target)


def as_one(windows: list[Sample]) -> Sample:
    """The windows' rows together, as the slow-drift test sees them: without the model's own view."""
    return reduce(concat_samples, (replace(window, embeddings=None) for window in windows))


# What one repetition does: (traffic, seed) -> figures by name. Equal seed, equal figures.


def calm_window(size: int, traffic: Traffic, seed: int) -> dict[str, float]:
    """One window without drift, tested alone at the whole rate."""
    rng = np.random.default_rng([1, size, seed])
    reference, current = traffic.draw(rng, 2_000), traffic.draw(rng, size)
    report = detect_drift(reference, current, false_alarm_rate=RATE, seed=seed)
    lowest = min(finding.p_adjusted for finding in report.findings)
    return {"1": lowest <= 0.01, "5": lowest <= 0.05, "peer": evidently_alarms(reference, current)}


def calm_windows(traffic: Traffic, seed: int) -> dict[str, float]:
    """One window without drift and seven before it: the window's own columns and the slow-drift test together."""
    rng = np.random.default_rng([2, seed])
    reference, current = traffic.draw(rng, 2_000), traffic.draw(rng, 1_000)
    pooled = as_one([current, *(traffic.draw(rng, 1_000) for _ in range(RECENT - 1))])
    alone = detect_drift(reference, current, false_alarm_rate=RATE * (1 - SLOW_SHARE), seed=seed)
    slowly = detect_drift(reference, pooled, false_alarm_rate=RATE * SLOW_SHARE, seed=seed, columns=SLOW_COLUMNS)
    return {"alarm": bool(alone.drifted or slowly.drifted)}


def shifted_window(
    sizes: tuple[int, int], before: dict[str, Any], after: dict[str, Any], peer: bool, traffic: Traffic, seed: int
) -> dict[str, float]:
    """One window with a shift."""
    rng = np.random.default_rng([3, *sizes, seed])
    reference, current = traffic.draw(rng, sizes[0], **before), traffic.draw(rng, sizes[1], **after)
    report = detect_drift(reference, current, false_alarm_rate=RATE * (1 - SLOW_SHARE), seed=seed)
    found = {"found": bool(report.drifted)}
    return found | ({"peer": evidently_alarms(reference, current)} if peer else {})


def concept(traffic: Traffic, seed: int) -> dict[str, float]:
    """Windows of 300 labels until a tenth of flipped labels is found, and an alarm in 20 windows without a change."""
    rng = np.random.default_rng([4, seed])
    reference = RightAnswers.of(traffic.draw(rng, 1_000))
    look = partial(detect_slow_loss, reference, rate=RATE, tolerated_loss=StalenessPolicy().tolerated_f1_loss)
    found = look([RightAnswers.of(traffic.draw(rng, 300, flipped=0.1)) for _ in range(30)])
    calm = look([RightAnswers.of(traffic.draw(rng, 300)) for _ in range(20)])
    return {
        "windows": next((k + 1 for k, state in enumerate(found) if state.alarm), 30),
        "alarm": any(state.alarm for state in calm),
    }


def promised(traffic: Traffic, seed: int) -> dict[str, float]:
    """The estimate without labels beside the labels, over all rows, a class and a small segment."""
    rng = np.random.default_rng([5, seed])
    window = traffic.draw(rng, 500)
    said, found = estimate(window, seed=seed), measure(window, seed=seed)
    assert said is not None
    assert found is not None
    held = back_test(window, seed=seed)
    broken = back_test(traffic.draw(rng, 500, flipped=0.2), seed=seed)
    parts = parts_of(window, seed=seed)
    covers = {
        name.partition(":")[0]: float(part.estimated_low <= part.f1 <= part.estimated_high)
        for name, part in parts.items()
        if name in ("class:negative", "segment:mobile")
        and part.f1 is not None and part.estimated_low is not None and part.estimated_high is not None
    }  # fmt: skip
    return covers | {
        "covers": said.low <= found.f1 <= said.high,
        "width": said.high - said.low,
        "labelled_width": found.high - found.low,
        "blamed": held is not None and not held.trusted,
        "caught": broken is not None and not broken.trusted,
    }


def growing_area(step: float, traffic: Traffic, seed: int) -> dict[str, float]:
    """The share of the traffic that a new area has when it is found; it grows by `step` a window of 1,000."""
    rng = np.random.default_rng([6, round(step * 10_000), seed])
    reference = traffic.draw(rng, 2_000)
    recent = []
    alone = together = None
    windows = 0
    while together is None or (alone is None and windows * step < 0.3):
        windows += 1
        current = traffic.draw(rng, 1_000, new_share=windows * step)
        recent = [*recent, current][-RECENT:]
        report = detect_drift(reference, current, false_alarm_rate=RATE * (1 - SLOW_SHARE), seed=seed)
        if alone is None and report.drifted:
            alone = windows * step
        if together is None and alone is None and len(recent) > 1:
            slowly = detect_drift(
                reference, as_one(recent), false_alarm_rate=RATE * SLOW_SHARE, seed=seed, columns=SLOW_COLUMNS
            )
            together = windows * step if slowly.drifted else None
        together = alone if together is None else together
    return {"alone": alone or 0.3, "together": together, "windows": windows}


# What a cell is: its repetitions, and the rows that their figures make.


def calm_rows(case: str, found: Found) -> list[Row]:
    """False alarms at both rates and the peer's."""
    rows = []
    for rate in (0.01, 0.05):
        hits = found[f"{rate * 100:.0f}"]
        bound = rate + 2.58 * np.sqrt(rate * (1 - rate) / len(hits))
        target = f"<= {bound:.3f} (99 % binomial bound)"
        row = share(case, f"false_alarms_at_{rate:.0%}", int(sum(hits)), len(hits), target=target)
        rows.append(judged(row, row.value <= bound))
    return [*rows, share(case, "false_alarms", int(sum(found["peer"])), len(found["peer"]), peer=PEER)]


def together_rows(found: Found) -> list[Row]:
    """False alarms with the slow-drift test beside the window's columns."""
    hits = found["alarm"]
    bound = RATE + 2.58 * np.sqrt(RATE * (1 - RATE) / len(hits))
    case = "no drift, 8 windows of 1,000 with the slow-drift test, reference 2,000"
    target = f"<= {bound:.3f} (99 % binomial bound)"
    row = share(case, "false_alarms_at_1%", int(sum(hits)), len(hits), target=target)
    return [judged(row, row.value <= bound)]


def shifted_rows(case: str, target: float | None, found: Found) -> list[Row]:
    """Windows in which the shift was found."""
    hits = found["found"]
    row = share(case, "found_at_1%", int(sum(hits)), len(hits), target=None if target is None else f">= {target}")
    rows = [row if target is None else judged(row, row.value >= target)]
    peers = found.get("peer", [])
    return [*rows, share(case, "found", int(sum(peers)), len(peers), peer=PEER)] if peers else rows


def concept_rows(found: Found) -> list[Row]:
    """Delay and false alarms of the label e-detector."""
    case = "labels of 10 % of rows flipped, 300 labels a window, reference 1,000"
    delay = quantiles(case, "windows_until_found_median", found["windows"], "windows", "<= 5")
    calm = share(
        "no change, 300 labels a window", "alarm_within_20_windows_at_1%", int(sum(found["alarm"])),
        len(found["alarm"]), target="<= 0.20",
    )  # fmt: skip
    return [judged(delay, delay.value <= 5), judged(calm, calm.value <= 0.2)]


def promised_rows(found: Found) -> list[Row]:
    """Coverage, width and back-test of the estimate without labels."""
    case, n = "estimate without labels, windows of 500", len(found["covers"])
    rows = []
    for metric, name in (("pos_neg_f1", "covers"), ("negative_f1", "class"), ("f1_of_a_segment_of_150", "segment")):
        row = share(case, f"interval_covers_{metric}", int(sum(found[name])), len(found[name]), target=">= 0.90")
        rows.append(judged(row, row.value >= 0.9))
    ratio = float(np.mean(found["width"]) / np.mean(found["labelled_width"]))
    width = Row(
        case=case, metric="width_over_labelled_width", value=ratio, low=ratio, high=ratio, runs=n, unit="ratio",
        target="<= 2",
    )  # fmt: skip
    return [
        *rows,
        judged(width, ratio <= 2),
        share(case, "back_test_blames_a_good_estimate", int(sum(found["blamed"])), n),
        share("20 % of labels flipped, windows of 500", "back_test_finds_it", int(sum(found["caught"])), n),
    ]


def growing_rows(case: str, target: float | None, found: Found) -> list[Row]:
    """The changed share at the alarm, by the window's test alone and with the slow one; one window a judgement."""
    goal = None if target is None else f"< {target}"
    rows = [
        quantiles(case, "changed_share_when_found_median", found["together"], "share", goal),
        quantiles(case, "the_same_without_the_slow_test", found["alone"], "share"),
    ]
    return rows if target is None else [judged(rows[0], rows[0].value < target), rows[1]]


def independent_cells(runs: int, found_runs: int, stretches: int) -> dict[str, Cell]:
    """Return every cell of independent rows by name: what is repeated, how often, and how it is summed up."""
    table: dict[str, Cell] = {
        "concept": (concept, runs, concept_rows),
        "estimate": (promised, runs, promised_rows),
    }

    def shift(
        case: str, sizes: tuple[int, int], after: dict[str, Any], target: float | None, before: Any = None
    ) -> None:
        task = partial(shifted_window, sizes, before or {}, after, target is not None)
        table[case] = (task, found_runs, partial(shifted_rows, case, target))

    def area(percent: float, size: int, target: float | None = None) -> None:
        case = f"{percent:g} % of traffic from a new area, windows of {size:,}, reference 2,000"
        shift(case, (2_000, size), {"new_share": percent / 100}, target)

    def negative(percent: float, size: int, reference: int, target: float | None = None) -> None:
        case = f"predicted negative share 25 to {percent:g} %, windows of {size:,}, reference {reference:,}"
        after = {"shares": (percent / 100, 0.25, 0.75 - percent / 100)}
        shift(case, (reference, size), after, target, {"shares": QUARTER})

    def growing(step: float, count: int, target: float | None = None) -> None:
        case = f"new area grows by {step:.2%} a window of 1,000, reference 2,000"
        table[case] = (partial(growing_area, step), count, partial(growing_rows, case, target))

    for size in (100, 500, 1000, 5000):
        case = f"no drift, windows of {size}, reference 2,000"
        table[case] = (partial(calm_window, size), runs, partial(calm_rows, case))
        if size == 500:
            area(10, 1_000, 0.90)
    growing(0.01, stretches, 0.10)
    negative(30, 2_000, 10_000, 0.85)
    negative(35, 2_000, 10_000, 0.99)
    table["calm with slow test"] = (calm_windows, runs, together_rows)
    for percent, size in ((10, 250), (10, 500), (2.5, 1_000), (5, 1_000)):
        area(percent, size)
    for percent, size in ((30, 500), (35, 500), (30, 1_000), (35, 1_000)):
        negative(percent, size, 2_000)
    growing(0.0025, stretches // 2)
    return table


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Traffic that the cells of a process draw from."""

    independent: Traffic
    live: LiveSource


_sources: _Sources | None = None


def _open(known: Path, new: Path, embed: bool) -> None:
    global _sources  # noqa: PLW0603 - one a process
    os.environ["DO_NOT_TRACK"] = os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    rows, area = load(known), load(new)
    traffic = Traffic(rows, area, embed=embed)
    embedder = None if traffic.embeddings is None else KnownEmbedder(traffic.rows, traffic.embeddings)
    _sources = _Sources(independent=traffic, live=LiveSource(known=rows, new=area, embedder=embedder, peers=peers()))


def _repeat(cell: str, task: Callable[[Any, int], dict[str, float]], seed: int) -> dict[str, float]:
    assert _sources is not None
    source = _sources.live if is_live(cell) else _sources.independent
    return {name: float(value) for name, value in task(source, seed).items()}


def is_live(cell: str) -> bool:
    """Return True if a cell draws from live traffic."""
    return " traffic, " in cell


def run_cells(
    wanted: dict[str, Cell],
    done: Results,
    repeat: Callable[[str, Cell], list[dict[str, float]]],
    save: Callable[[Results], None],
) -> None:
    """Run the cells that are not done yet; `save` gets each one's rows."""
    for name, cell in wanted.items():
        if name in done:
            continue
        started = time.monotonic()
        figures = repeat(name, cell)
        rows = cell[2]({key: [one[key] for one in figures] for key in figures[0]})
        done[name] = [row.to_json() for row in rows]
        save({name: done[name]})
        for row in done[name]:
            print(f"{row['case']}: {row['metric']} {row['value']:.4g} ({row.get('peer') or row['target']})")
        print(f"  {time.monotonic() - started:.0f} s", flush=True)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="windows per cell without drift")
    parser.add_argument("--found-runs", type=int, default=200, help="windows per cell with a drift")
    parser.add_argument(
        "--slow-runs", type=int, default=100, help="stretches of slow drift or loss, several windows each"
    )
    parser.add_argument("--chains", type=int, default=3, help="chains per traffic")
    parser.add_argument("--chain-hours", type=int, default=CHAIN_H, help="hourly windows a chain")
    parser.add_argument("--quarter", type=int, default=QUARTER_WINDOWS, help="windows of six hours in a quarter")
    parser.add_argument("--grown-chains", type=int, default=4, help="chains in which a new area grows, five times each")
    parser.add_argument("--peer", help="only the cells of this library: nannyml or alibi_detect")
    parser.add_argument("--known", type=Path, default=SAMPLE / "feedback.csv")
    parser.add_argument("--new", type=Path, default=SAMPLE / "new_area.csv")
    parser.add_argument("--cells", nargs="*", help="only those whose name has this, in this order")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def all_cells(options: argparse.Namespace) -> dict[str, Cell]:
    """Return our cells by name."""
    return {
        **live_cells(
            options.runs, options.chains, options.grown_chains, found_runs=options.found_runs,
            hours=options.chain_hours, quarter=options.quarter,
        ),
        **recurring_cells(options.runs, options.chains, options.chain_hours, options.slow_runs),
        **independent_cells(options.runs, options.found_runs, options.slow_runs),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run every cell that is not done yet; write the result once all are."""
    options = parsed(arguments)
    partial_file = options.out.parent / "cells" / options.out.name
    done: Results = json.loads(partial_file.read_text()) if partial_file.exists() else {}
    cells = all_cells(options)
    mine = cells if options.peer is None else peer_cells(options.peer, options.runs)
    wanted = {name: mine[name] for part in options.cells or [""] for name in mine if part in name}
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(threads, "1")  # of the processes below: each has a core
    measured_commit = commit()  # before the first cell: the working tree may move on
    opened = (options.known, options.new, options.peer is None)
    with get_context("spawn").Pool(options.processes, _open, opened) as pool:

        def repeat(name: str, cell: Cell) -> list[dict[str, float]]:
            seeds = range(options.seed * cell[1], (options.seed + 1) * cell[1])
            return pool.map(partial(_repeat, name, cell[0]), seeds, chunksize=1 + len(seeds) // 100)

        def save(found: Results) -> None:
            measured = {name: [row | {"commit": measured_commit} for row in rows] for name, rows in found.items()}
            save_cells(partial_file, measured)

        run_cells(wanted, done, repeat, save)
    done = json.loads(partial_file.read_text()) if partial_file.exists() else {}
    missing = [name for name in cells if name not in done]
    if missing:
        print(f"{len(done)} cells are done, {len(missing)} are missing: no result is written yet")
        return 0
    names = (*cells, *sorted(set(done) - set(cells)))
    rows = [Row(**row) for name in names for row in done[name]]
    write_result(
        options.out,
        name="drift",
        command="make benchmark-drift",
        seed=options.seed,
        rows=rows,
        versions={"numpy": np.__version__, "polars": pl.__version__, "evidently": "0.7.23"},
    )
    partial_file.unlink(missing_ok=True)
    return 0 if all(row.met is not False for row in rows) else 1


def save_cells(file: Path, done: Results) -> None:
    """Add cells to those of the file: other processes, with other cells or a peer, may write too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known: Results = json.loads(file.read_text()) if file.exists() else {}
        write_json(file, known | done)
    finally:
        os.close(folder)  # with its lock


if __name__ == "__main__":
    sys.exit(main())
