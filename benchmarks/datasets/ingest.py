"""Speed at which labelled rows become a snapshot, and its memory; writes results/ingest.json.

Files of the requested size are generated first: rows of about 90 bytes (Japanese: 110), of which one in twenty is a
near-duplicate and one in a hundred a row that must be quarantined. In the English case one row in thirty holds
characters beyond ASCII; the mixed case is half English, a quarter German and a quarter Japanese. The English rows are
read as CSV, JSON lines and Parquet too, and compared in rows per second. The clock runs from the closed file to the
manifest in the lake. Memory is the resident memory of this process and its workers together.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psutil
import pyarrow.parquet as pq

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import ingest
from absa.data.snapshot import Manifest
from benchmarks.figures import Row, write_result

RESULTS = Path(__file__).parents[1] / "results" / "ingest.json"
TARGETS_MB_PER_S = {"English": 40.0, "mixed": 30.0, "Japanese": 15.0}
TARGET_PEAK_MB = 2048.0
BLOCK_ROWS = 200_000


@dataclass(frozen=True, kw_only=True)
class Script:
    """Form of a language: its words, and what is between and after them.

    Args:
        letters: characters of words.
        lengths: shortest and longest word, in characters.
        space: between words; empty for languages that write none.
        joiners: between the halves of a row; the last one is rare.
        ends: of a row.
    """

    letters: str
    lengths: tuple[int, int]
    space: str
    joiners: tuple[str, str, str, str]
    ends: tuple[str, str, str, str]


ENGLISH = Script(
    letters="etaoinshrdlucmfwypvbgk",
    lengths=(3, 8),
    space=" ",
    joiners=(", ", " ", "; ", " – "),
    ends=(".", "!", "", "?"),
)
GERMAN = Script(
    letters="etaoinshrdlucmfwypvbgkäöüßé",
    lengths=(3, 8),
    space=" ",
    joiners=(", ", " „so“ ", "; ", " – "),
    ends=(".", "! 🙂", "", "…"),
)
JAPANESE = Script(
    letters="のにはをたがでてとしれさあるいもすなこよアイスルトンクシリコ日本人大年出会社使良悪画面電池店員",
    lengths=(1, 4),
    space="",
    joiners=("、", "。", "　１２", "ｶﾞ"),
    ends=("。", "！", "", "です。👍🏽"),
)
CASES: dict[str, tuple[tuple[Script, float], ...]] = {
    "English": ((ENGLISH, 1.0),),
    "mixed": ((ENGLISH, 0.5), (GERMAN, 0.25), (JAPANESE, 0.25)),
    "Japanese": ((JAPANESE, 1.0),),
}
"""Scripts of each case, with their shares of the rows."""


class Writer:
    """Rows of some scripts, block by block."""

    def __init__(self, case: str, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._scripts = [(script, share, *self._vocabulary(script)) for script, share in CASES[case]]

    def _vocabulary(self, script: Script) -> tuple[pl.Series, pl.Series]:
        rng, (shortest, longest) = self._rng, script.lengths
        letters = np.array(list(script.letters))
        words = pl.Series(["".join(rng.choice(letters, rng.integers(shortest, longest + 1))) for _ in range(40_000)])
        pairs = rng.integers(0, 40_000, (3000, 2))
        return words, pl.Series([f"{words[int(a)]}{script.space}{words[int(b)]}" for a, b in pairs])

    def block(self, n: int) -> pl.DataFrame:
        """Return so many rows, of which one in twenty is a near-duplicate."""
        drawn = [self._rows(script, *of, round(n * share)) for script, share, *of in self._scripts]
        rows = pl.concat(drawn)
        if len(drawn) > 1:
            rows = rows[self._rng.permutation(rows.height)]
        again = rows[self._rng.integers(0, n, n // 20)].with_columns(text=pl.col("text").str.to_uppercase() + "!!")
        return pl.concat([rows[: n - n // 20], again])

    def _rows(self, script: Script, words: pl.Series, aspects: pl.Series, n: int) -> pl.DataFrame:
        rng = self._rng
        aspect = aspects.gather(rng.integers(0, len(aspects), n))
        parts = [words.gather(rng.integers(0, len(words), n)) for _ in range(8)]
        frame = pl.DataFrame({f"w{i}": part for i, part in enumerate(parts)}).with_columns(
            aspect=aspect,
            joiner=pl.Series(rng.choice(script.joiners, n, p=[0.4, 0.5, 0.067, 0.033])),
            end=pl.Series(rng.choice(script.ends, n)),
            label=pl.Series(rng.choice([0, 1, 2, 7], n, p=[0.4, 0.2, 0.39, 0.01])),
            segment=pl.Series(rng.choice(["shop", "mobile", "billing", "support"], n)),
        )
        first, then = ["w0", "w1", "w2", "aspect", "w3"], ["w4", "w5", "w6", "w7"]
        return frame.select(
            text=pl.concat_str(
                pl.concat_str(first, separator=script.space),
                "joiner",
                pl.concat_str(then, separator=script.space),
                "end",
            ),
            aspect="aspect",
            label="label",
            segment="segment",
        )


def generate(path: Path, megabytes: float, seed: int, case: str = "English", *, rows: int | None = None) -> int:
    """Write a file of about so many megabytes, or of so many rows, in the format of its ending; returns its rows."""
    writer, written = Writer(case, seed), 0
    with path.open("wb") as file:
        if path.suffix == ".csv":
            file.write(b"text,aspect,label,segment\n")
        parquet = None
        while file.tell() < megabytes * 1e6 if rows is None else written < rows:
            block = writer.block(BLOCK_ROWS)
            if path.suffix == ".csv":
                block.write_csv(file, include_header=False)
            elif path.suffix == ".jsonl":
                block.write_ndjson(file)
            else:
                table = block.to_arrow(compat_level=pl.CompatLevel.oldest())
                parquet = parquet or pq.ParquetWriter(file, table.schema, compression="zstd")
                parquet.write_table(table)
            written += BLOCK_ROWS
        if parquet is not None:
            parquet.close()
    return written


class PeakMemory:
    """The largest resident memory of this process and its children, sampled ten times a second."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    memory = process.memory_info()
                    total += memory.rss - memory.shared  # pages of the spill files are the system's to drop
                except psutil.NoSuchProcess:
                    continue
            self.peak_mb = max(self.peak_mb, total / 2**20)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def measure(file: Path, folder: Path, processes: int | None) -> tuple[float, float, Manifest]:
    """Seconds, peak memory in MB, and the manifest of one ingest into an empty lake."""
    with tempfile.TemporaryDirectory(dir=folder) as lake, PeakMemory() as memory:
        started = time.perf_counter()
        manifest = ingest(FolderLake(Path(lake)), [file], processes=processes)
        seconds = time.perf_counter() - started
    return seconds, memory.peak_mb, manifest


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Runs of one file."""

    size_mb: float
    rows: int
    seconds: tuple[float, ...]
    peaks_mb: tuple[float, ...]

    def figure(self, case: str, metric: str, values: Sequence[float], unit: str, target: float | None) -> Row:
        """Return the row of a rate with its lowest accepted median."""
        return Row(
            case=case,
            metric=metric,
            value=median(values),
            low=min(values),
            high=max(values),
            runs=len(values),
            unit=unit,
            target=None if target is None else f">= {target:.0f}",
            met=None if target is None else median(values) >= target,
        )

    def megabytes_per_second(self, case: str, target: float | None) -> Row:
        """Return the row of the file's bytes per second."""
        return self.figure(case, "ingest", [self.size_mb / seconds for seconds in self.seconds], "MB/s", target)

    def rows_per_second(self, case: str, target: float | None) -> Row:
        """Return the row of rows per second."""
        rates = [self.rows / seconds / 1e3 for seconds in self.seconds]
        return self.figure(case, "rows", rates, "1,000 rows/s", target)

    def peak_memory(self, case: str) -> Row:
        """Return the row of the largest memory of any run."""
        peak = max(self.peaks_mb)
        return Row(
            case=case,
            metric="peak memory",
            value=peak,
            low=min(self.peaks_mb),
            high=peak,
            runs=len(self.peaks_mb),
            unit="MB",
            target=f"< {TARGET_PEAK_MB:.0f}",
            met=peak < TARGET_PEAK_MB,
        )


def run_file(file: Path, rows: int, options: argparse.Namespace) -> Measured:
    """Ingest a file as often as requested."""
    size_mb = file.stat().st_size / 1e6
    print(f"{file.name}: {size_mb:.0f} MB, {rows} rows on {os.cpu_count()} cores", flush=True)
    times, peaks = [], []
    for _ in range(options.runs):
        seconds, peak_mb, manifest = measure(file, file.parent, options.processes)
        times.append(seconds)
        peaks.append(peak_mb)
        print(
            f"{seconds:.1f} s, {size_mb / seconds:.1f} MB/s, {rows / seconds / 1e3:.0f} k rows/s, {peak_mb:.0f} MB; "
            f"{manifest.total_rows} rows kept, {manifest.duplicates_removed} duplicates, {manifest.quarantined}",
            flush=True,
        )
    return Measured(size_mb=size_mb, rows=rows, seconds=tuple(times), peaks_mb=tuple(peaks))


def main() -> int:
    """Generate, ingest, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1000.0, help="size of each CSV (default 1 GB)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=None, help="worker processes (default: one a core)")
    parser.add_argument("--folder", type=Path, default=None, help="where the data lie meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    figures = []
    slowest_csv, english_rows = None, 0
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for case, target in TARGETS_MB_PER_S.items():
            file = Path(scratch) / "rows.csv"
            found = run_file(file, generate(file, options.megabytes, options.seed, case), options)
            name = f"{case}, CSV of {found.size_mb / 1000:.2g} GB, {found.rows} rows"
            figures += [found.megabytes_per_second(name, target), found.peak_memory(name)]
            if slowest_csv is None:  # English: the same rows in the other formats must not be slower
                slowest_csv = min(found.rows / seconds / 1e3 for seconds in found.seconds)
                english_rows = found.rows
                figures.append(found.rows_per_second(name, None))
            file.unlink()
        for ending in ("jsonl", "parquet"):
            file = Path(scratch) / f"rows.{ending}"
            found = run_file(file, generate(file, options.megabytes, options.seed, rows=english_rows), options)
            name = f"English, {ending} of {found.size_mb / 1000:.2g} GB, {found.rows} rows"
            figures += [found.rows_per_second(name, slowest_csv), found.peak_memory(name)]
            file.unlink()
    write_result(
        options.out,
        name="ingest",
        command="make benchmark-ingest",
        seed=options.seed,
        rows=figures,
        versions={"polars": pl.__version__},
    )
    return 0 if all(row.met for row in figures if row.met is not None) else 1


if __name__ == "__main__":
    sys.exit(main())
