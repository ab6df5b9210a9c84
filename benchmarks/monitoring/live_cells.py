"""Cells of the drift benchmark on live traffic: false alarms of window test, slow test and chain, and detections.

A reference of the window and slow tests is drawn from the same hours of the five working days before, as many rows a
day: cycles are no drift. Each repetition has a population of its own; a chain has one population over all its windows.
The quarter has windows of six hours, and a new area starts to grow at several hours of one chain: hourly windows and a
chain for each start would cost hours.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, sqrt
from typing import Final

import numpy as np
import polars as pl

from absa.data.traffic.feedback_habits import LATE_AND_BIASED, FeedbackHabits
from absa.data.traffic.population import Cycles
from benchmarks.figures import Row, share
from benchmarks.monitoring.chain import Chain, JudgedWindow
from benchmarks.monitoring.drift_peers import EVIDENTLY, Peer, peer_name
from benchmarks.monitoring.live_traffic import HABITS, LARGE_UNIT, MONDAY, NO_CHANGE, Change, LiveTraffic, window_of
from monitoring.drift.detect import SLOW_COLUMNS, SLOW_SHARE, detect_drift
from monitoring.drift.embedding import Embedder, embed_sample
from monitoring.drift.sample import Sample, sample_of
from monitoring.monitor import WatchedVersion, WatchSettings
from monitoring.performance import FrozenTest

RATE: Final = 0.01
LATE_LABELS: Final = "late labels"
ONE_UNIT: Final = "one large unit"
DAILY_POINTS: Final = (2, 4, 8)
"""Swings of the negative share over the day, in points, of traffic without any other habit."""
EXTREMES: Final = ((ONE_UNIT, 500), (ONE_UNIT, 2_000), ("together", 100), ("together", 10_000))
"""Windows at the ends of the range: a third of the traffic from one unit, few rows and many."""
DAYS_BEFORE: Final = (4, 7, 8, 9, 10)  # Friday and Monday to Thursday, before Friday of the second week
WINDOW_DAY: Final = 11
SLOW_WINDOWS: Final = 8
WINDOW_ROWS: Final = (500, 2_000)
QUARTER_WINDOWS: Final = 13 * 7 * 4
QUARTER_WINDOW_H: Final = 6
_QUARTER_REQUESTS_AN_HOUR: Final = 200.0  # a window has as many rows as an hourly one of the other chains
CHAIN_H: Final = 200
CALMED_H: Final = 8 * 24
"""Hours of a chain without drift before a new area grows: a week of history and a day."""
STARTS: Final = 5
"""Hours at which a new area starts to grow in a chain, `START_STEP_H` apart."""
START_STEP_H: Final = 6
EMBED_ROWS: Final = 500
"""As many rows a side as a deployment embeds by default."""
_Z: Final = 2.576  # of a 99 % interval


def daily(points: int) -> str:
    """Return the name of the traffic of which only the negative share follows the day."""
    return f"negative share ± {points} points over the day"


_DAILY: Final = {
    daily(points): replace(
        HABITS["independent"],
        cycles=Cycles(
            daily_volume=0.0, daily_negative=points / 100, daily_topics=0.0, daily_users=0.0, weekend_volume=1.0,
            weekend_negative=0.0, weekend_topics=0.0,
        ),
    )
    for points in DAILY_POINTS
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LiveSource:
    """Rows that live traffic is made of: bundled ones with text, aspect, label and segment, and their embeddings."""

    known: pl.DataFrame
    new: pl.DataFrame
    embedder: Embedder | None = None
    peers: dict[str, Peer] = field(default_factory=dict)

    def traffic(self, name: str, seed: int, *, requests_an_hour: float | None = None) -> LiveTraffic:
        """Return the traffic of a population by its name; "late labels" is all together with late and biased ones."""
        populations = {**HABITS, **_DAILY, LATE_LABELS: HABITS["together"], ONE_UNIT: LARGE_UNIT}
        population = populations[name]
        if requests_an_hour is not None:
            population = replace(population, requests_an_hour=requests_an_hour)
        feedback = LATE_AND_BIASED if name == LATE_LABELS else None
        return LiveTraffic(self.known, self.new, population, feedback=feedback, seed=seed)

    def frozen_test(self) -> FrozenTest:
        """Return a version's test result on 2,000 independent rows."""
        known = FeedbackHabits(answer_rate_right=1.0, error_rate=0.0, delay_mean_s=0.0)
        rows = LiveTraffic(self.known, self.new, HABITS["independent"], feedback=known, seed=1).first(2_000, 0)
        confusion = np.zeros((3, 3))
        np.add.at(confusion, (rows["feedback_label"].to_numpy(), rows["label"].to_numpy()), 1.0)
        return FrozenTest(confusion=tuple(tuple(float(count) for count in row) for row in confusion))

    def sample(self, rows: pl.DataFrame, seed: int) -> Sample:
        """Return the sample of rows, with embeddings of as many as a deployment embeds."""
        return embed_sample(sample_of(rows), self.embedder, max_rows=EMBED_ROWS, seed=seed)


Figures = dict[str, float]
Found = dict[str, list[float]]
LiveTask = Callable[[LiveSource, int], Figures]
LiveCell = tuple[LiveTask, int, Callable[[Found], list[Row]]]


def bound(rate: float, count: float) -> float:
    """Return the upper end of the 99 % interval of a share of `count` windows whose rate is `rate`."""
    return rate + _Z * sqrt(rate * (1 - rate) / count)


# What one repetition does: (source, seed) -> figures by name. Equal seed, equal figures.


def reference_rows(traffic: LiveTraffic, rows: int, hours: tuple[int, int], change: Change, seed: int) -> pl.DataFrame:
    """Return rows of the same hours of the working days before, equally many of each day."""
    a_day = rows // len(DAYS_BEFORE)
    days = [traffic.hours(24 * day + hours[0], 24 * day + hours[1], change) for day in DAYS_BEFORE]
    return pl.concat([day.sample(min(a_day, day.height), seed=seed) for day in days]).sort("at")


def window_pair(
    traffic: LiveTraffic, sizes: tuple[int, int], changes: tuple[Change, Change], seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a reference and a window of so many rows; the window starts at an hour that the seed chooses."""
    hour = seed % (20 - min(sizes[1] // 800, 14))  # early enough to end on the same day
    window = traffic.first(sizes[1], 24 * WINDOW_DAY + hour, changes[1])
    lasts = ceil((window["at"].max() - MONDAY).total_seconds() / 3_600.0) - 24 * WINDOW_DAY - hour
    return reference_rows(traffic, sizes[0], (hour, hour + lasts), changes[0], seed), window


def calm_window(name: str, size: int, source: LiveSource, seed: int) -> Figures:
    """One window without drift, tested alone at the whole rate, by us and by Evidently."""
    before, after = window_pair(source.traffic(name, seed), (2_000, size), (NO_CHANGE, NO_CHANGE), seed)
    reference, window = (source.sample(rows, seed) for rows in (before, after))
    report = detect_drift(reference, window, false_alarm_rate=RATE, seed=seed)
    peers = {name: alarms(reference, window) for name, alarms in source.peers.items() if name == EVIDENTLY}
    return {"alarm": bool(report.drifted), **peers}


def peer_window(name: str, size: int, peer: str, source: LiveSource, seed: int) -> Figures:
    """The same window, tested by a peer."""
    before, after = window_pair(source.traffic(name, seed), (2_000, size), (NO_CHANGE, NO_CHANGE), seed)
    return {"alarm": source.peers[peer](sample_of(before), sample_of(after))}


def calm_slow(name: str, source: LiveSource, seed: int) -> Figures:
    """Eight windows of 500 rows without drift as one, against a reference of 1,000, at a fifth of the rate."""
    traffic, hour = source.traffic(name, seed), seed % (24 - SLOW_WINDOWS)
    start = 24 * WINDOW_DAY + hour
    pooled = pl.concat([traffic.first(500, start + k) for k in range(SLOW_WINDOWS)])
    reference = reference_rows(traffic, 1_000, (hour, hour + SLOW_WINDOWS), NO_CHANGE, seed)
    report = detect_drift(
        sample_of(reference), sample_of(pooled.unique("request_id", maintain_order=True)),
        false_alarm_rate=RATE * SLOW_SHARE, seed=seed, columns=SLOW_COLUMNS,
    )  # fmt: skip
    return {"alarm": bool(report.drifted)}


def shifted_window(
    name: str, sizes: tuple[int, int], changes: tuple[Change, Change], source: LiveSource, seed: int
) -> Figures:
    """One window with a shift, at the rate that the window's own test has beside the slow one."""
    pair = window_pair(source.traffic(name, seed), sizes, changes, seed)
    reference, window = (source.sample(rows, seed) for rows in pair)
    report = detect_drift(reference, window, false_alarm_rate=RATE * (1 - SLOW_SHARE), seed=seed)
    return {"found": bool(report.drifted)}


def calm_chain(name: str, hours: int, source: LiveSource, seed: int) -> Figures:
    """The monitor's whole chain over hourly windows without drift."""
    return _counted(chained(new_chain(source), source.traffic(name, seed), range(hours)))


def calm_quarter(name: str, windows: int, source: LiveSource, seed: int) -> Figures:
    """The whole chain over windows of six hours without drift, a quarter long."""
    traffic = source.traffic(name, seed, requests_an_hour=_QUARTER_REQUESTS_AN_HOUR)
    hours = range(0, windows * QUARTER_WINDOW_H, QUARTER_WINDOW_H)
    return _counted(chained(new_chain(source), traffic, hours))


def _counted(windows: Iterable[JudgedWindow]) -> Figures:
    judged = list(windows)
    return {
        "windows": len(judged),
        "compared": sum(each.compared for each in judged),
        "alarms": sum(each.compared and each.alarms for each in judged),
        "stale": sum(each.compared and each.verdict.verdict == "STALE" for each in judged),
    }


def grown_chain(name: str, step: float, source: LiveSource, seed: int) -> Figures:
    """The share of the traffic that a new area has when the chain finds it; it grows by `step` an hourly window.

    A false alarm before is not counted; the area starts to grow after a week of history and a day, at several hours of
    the same chain.
    """
    traffic, chain, figures = source.traffic(name, seed), new_chain(source), {}
    for start in range(STARTS):
        first = CALMED_H + START_STEP_H * start
        for _ in chained(chain, traffic, range(first - START_STEP_H if start else 0, first)):
            pass
        figures[_started(start)] = _found_at(replace(chain, earlier=list(chain.earlier)), traffic, first, step)
    return figures


def _started(start: int) -> str:
    return f"changed {start}"


def _found_at(chain: Chain, traffic: LiveTraffic, hour: int, step: float) -> float:
    changed = 0.0
    while changed < 1.0:
        changed = min(changed + step, 1.0)
        (judged,) = chained(chain, traffic, range(hour, hour + 1), Change(new_share=changed))
        if judged.alarms:
            break
        hour += 1
    return changed


def new_chain(source: LiveSource) -> Chain:
    """Return the state of a monitor that has seen nothing, with default settings."""
    champion = WatchedVersion(version="1", frozen_test=source.frozen_test(), champion_since=MONDAY, snapshot_at=MONDAY)
    return Chain(champion=champion, settings=WatchSettings(), embedder=source.embedder)


def chained(chain: Chain, traffic: LiveTraffic, hours: range, change: Change = NO_CHANGE) -> Iterator[JudgedWindow]:
    """Yield the verdict of each window, as long as the step of `hours`."""
    for hour in hours:
        end = hour + hours.step
        yield chain.judge(window_of(hour, end), traffic.hours(hour, end, change))


# The rows that the figures of a cell make.


def rate_rows(case: str, rate: float, found: Found) -> list[Row]:
    """False alarms held against the bound of the requested rate, and Evidently's where it was asked."""
    hits, runs = int(sum(found["alarm"])), len(found["alarm"])
    most = bound(rate, runs)
    target = f"<= {most:.3f} (99 % binomial bound)"
    ours = share(case, f"false_alarms_at_{rate:.1%}", hits, runs, target=target, met=hits / runs <= most)
    return [ours, *(peer_rows(case, EVIDENTLY, {"alarm": found[EVIDENTLY]}) if EVIDENTLY in found else [])]


def peer_rows(case: str, peer: str, found: Found) -> list[Row]:
    """A peer's false alarms: it has no rate to be held against."""
    return [share(case, "false_alarms", int(sum(found["alarm"])), len(found["alarm"]), peer=peer_name(peer))]


def chain_rows(case: str, found: Found) -> list[Row]:
    """Windows with WATCH or STALE over all chains, and the chains that are above the bound for their own windows."""
    alarms, compared = found["alarms"], found["compared"]
    hits, runs = int(sum(alarms)), int(sum(compared))
    most = bound(RATE, runs)
    above = sum(a / c > bound(RATE, c) for a, c in zip(alarms, compared, strict=True) if c)
    target = f"<= {most:.4f} (99 % binomial bound)"
    return [
        share(case, "windows_with_watch_or_stale", hits, runs, target=target, met=hits / runs <= most),
        share(case, "chains_above_the_bound_of_their_windows", int(above), len(alarms)),
        share(case, "windows_compared_with_a_reference", runs, int(sum(found["windows"]))),
        share(case, "windows_with_stale", int(sum(found["stale"])), runs),
    ]


def shifted_rows(case: str, least: float, found: Found) -> list[Row]:
    """Windows in which the shift was found, held against the share that independent rows gave, less ten points."""
    hits, runs = int(sum(found["found"])), len(found["found"])
    return [share(case, "found_at_1%", hits, runs, target=f">= {least:g}", met=hits / runs >= least)]


def grown_rows(case: str, target: float, found: Found) -> list[Row]:
    """The changed share at the first verdict that is not FRESH: the median with the 5 % and 95 % quantiles."""
    values = [value for start in range(STARTS) for value in found[_started(start)]]
    low, middle, high = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    return [
        Row(
            case=case, metric="changed_share_when_found_median", value=middle, low=low, high=high, runs=len(values),
            unit="share", target=f"< {target}", met=middle < target,
        )
    ]  # fmt: skip


def live_cells(
    runs: int, chains: int, grown: int, *, found_runs: int, hours: int = CHAIN_H, quarter: int = QUARTER_WINDOWS
) -> dict[str, LiveCell]:
    """Return every cell by name: what is repeated, how often, and how it is summed up.

    Args:
        runs: windows of a cell without drift.
        chains: chains of `hours` windows a traffic.
        grown: chains in which a new area grows, `STARTS` times each.
        found_runs: windows of a cell with a drift.
        hours: windows of a chain.
        quarter: windows of six hours of the one chain over a quarter.
    """
    table: dict[str, LiveCell] = {}
    for name in HABITS:
        case = f"{name} traffic, slow test: 8 windows of 500, reference 1,000"
        table[case] = (partial(calm_slow, name), runs, partial(rate_rows, case, RATE * SLOW_SHARE))
        for size in WINDOW_ROWS:
            case = f"{name} traffic, windows of {size:,}, reference 2,000"
            table[case] = (partial(calm_window, name, size), runs, partial(rate_rows, case, RATE))
    for name, size in EXTREMES:
        case = f"{name} traffic, windows of {size:,}, reference 2,000"
        table[case] = (partial(calm_window, name, size), runs, partial(rate_rows, case, RATE))
    for name in (*HABITS, LATE_LABELS, *_DAILY):
        case = f"{name} traffic, chain over {hours:,} hourly windows"
        table[case] = (partial(calm_chain, name, hours), chains, partial(chain_rows, case))
    shifts: tuple[tuple[str, float, tuple[int, int], tuple[Change, Change]], ...] = (
        *(
            (
                f"10 % from a new area{of}, windows of 1,000, reference 2,000",
                0.9,
                (2_000, 1_000),
                (NO_CHANGE, Change(new_share=0.1, own_segment=bool(of))),
            )
            for of in ("", " of its own segment")
        ),
        *(
            (
                f"negative share about 25 to {25 + points} %, windows of 2,000, reference 10,000",
                least,
                (10_000, 2_000),
                (Change(negative_points=-0.1), Change(negative_points=-0.1 + points / 100)),
            )
            for points, least in ((5, 0.788), (10, 0.9))
        ),
    )
    for name in ("independent", "together"):
        for what, least, sizes, changes in shifts:
            case = f"{name} traffic, {what}"
            table[case] = (
                partial(shifted_window, name, sizes, changes),
                found_runs,
                partial(shifted_rows, case, least),
            )
        case = f"{name} traffic, new area grows by 1 % an hourly window, chain"
        table[case] = (partial(grown_chain, name, 0.01), grown, partial(grown_rows, case, 0.12))
    for name in HABITS:
        case = f"{name} traffic, chain over a quarter of {quarter:,} windows of six hours"
        table[case] = (partial(calm_quarter, name, quarter), 1, partial(chain_rows, case))
    return table


def peer_cells(peer: str, runs: int) -> dict[str, LiveCell]:
    """Return the cells of a peer: the windows without drift that we are tested on."""
    table: dict[str, LiveCell] = {}
    for name in HABITS:
        for size in WINDOW_ROWS:
            if peer == "nannyml" and size > 500:
                continue  # its thresholds come from several chunks of the window's size within the reference
            case = f"{name} traffic, windows of {size:,}, reference 2,000"
            cell = (partial(peer_window, name, size, peer), runs, partial(peer_rows, case, peer))
            table[f"{peer}: {case}"] = cell
    return table
