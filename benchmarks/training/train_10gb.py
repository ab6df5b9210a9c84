"""10 GB of rows to a packaged model within 15 minutes: `make benchmark-train_10gb`.

Phases, in one go or one after the other (`--phase generate|ingest|tokens|train|all`; `--folder` keeps what is between):

- generate: CSV files of the asked size. Not timed as part of the run: a user's file is there.
- ingest: the files to a snapshot in a lake.
- tokens: the snapshot's train side to token shards.
- train: shards to a package: training, export, calibration, parity, and F1 on test rows. Gives tokens per second, rows
  learned from, MFU, and 1 where the deadline was held.

With a GPU the full size runs. Where there is none, a hundredth of it does, and what the full size would take is
projected from the rates measured here: those rows say `projected`, and how much a GPU learns is not projected at all.
The phase train needs torch and no polars, MLflow or Prefect: bring `tokens/`, `validation.jsonl`, `test.jsonl` and the
base model's folder (`--base`) to a bare GPU machine and run that phase there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Row, gpu_name, write_json, write_result

ROOT: Final = Path(__file__).parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "train_10gb.json"
FULL_MB: Final = 10_000.0
BUDGET_S: Final = 900.0
SCALE_ON_CPU: Final = 0.01
TARGET_TOKENS: Final = 3.5e6  # per second on an H100 or H200
TARGET_SHARE: Final = 0.6  # of the rows learned from
RESERVE_S: Final = 60.0  # of the whole budget, for export to parity and test rows
TEST_ROWS: Final = 2_000
MAX_TOKENS: Final = 128
ASPECTS: Final = 30_000
PHRASES: Final = 200_000
KINDS: Final = 4  # of aspects
NOISE: Final = 0.05
_CHUNK_ROWS: Final = 200_000
_ROW_BYTES: Final = 90
PHASES: Final = ("generate", "ingest", "tokens", "train")
Figures = dict[str, float]


def generate(folder: Path, megabytes: float) -> Figures:
    """Write rows/, a file for each core."""
    shutil.rmtree(folder / "rows", ignore_errors=True)
    (folder / "rows").mkdir()
    parts = [folder / "rows" / f"part-{number:02d}.csv" for number in range(os.cpu_count() or 1)]
    with ProcessPoolExecutor() as pool:
        rows = sum(pool.map(write_part, parts, [megabytes / len(parts)] * len(parts), range(len(parts))))
    return {"rows": rows, "mb": megabytes_of(folder)}


def megabytes_of(folder: Path) -> float:
    """Size of the generated files."""
    return sum(path.stat().st_size for path in (folder / "rows").iterdir()) / 1e6


@dataclass(frozen=True)
class LongTail:
    """Opinions by a law of a long tail: what few rows show is common, and each tenfold of rows shows as much again.

    A row's label follows from its phrase, and for a third of the phrases from the kind of its aspect too. Phrases and
    aspects have the weights 1, 1/2, 1/3 and so on.
    """

    labels: npt.NDArray[np.int64]  # (PHRASES, KINDS)

    @classmethod
    def drawn(cls) -> Self:
        """Return the labels of all phrases, always the same."""
        rng = np.random.default_rng(1)
        base = rng.integers(0, 3, (PHRASES, 1))
        turned = (rng.random((PHRASES, 1)) < 1 / 3) * rng.integers(0, 3, (PHRASES, KINDS))
        return cls((base + turned) % 3)

    def rows(self, count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], ...]:
        """Return aspects, phrases and labels of rows; a twentieth of the labels is noise."""
        aspect, phrase = ((size ** rng.random(count)).astype(np.int64) - 1 for size in (ASPECTS, PHRASES))
        said = self.labels[phrase, aspect % KINDS]
        return aspect, phrase, np.where(rng.random(count) < NOISE, rng.integers(0, 3, count), said)


def write_part(path: Path, megabytes: float, seed: int) -> int:
    """Write rows of about 90 bytes with opinions of a long tail; gives how many."""
    import polars as pl

    rng, letters = np.random.default_rng(0), np.array(list("etaoinshrdlucmfwypvbgk"))
    words = pl.Series(["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(40_000)])

    def pairs(count: int) -> pl.Series:
        return words.gather(rng.integers(0, len(words), count)) + " " + words.gather(rng.integers(0, len(words), count))

    aspects, phrases, tail = pairs(ASPECTS), pairs(PHRASES), LongTail.drawn()
    rng, rows = np.random.default_rng((0, seed)), 0
    with path.open("wb") as file:
        while file.tell() < megabytes * 1e6:
            count = min(_CHUNK_ROWS, 1 + int(megabytes * 1e6 - file.tell()) // _ROW_BYTES)
            asked, said, labels = tail.rows(count, rng)
            aspect = aspects.gather(asked)
            filler = [words.gather(rng.integers(0, len(words), count)) for _ in range(7)]
            text = pl.select(pl.concat_str([*filler[:4], aspect, phrases.gather(said), *filler[4:]], separator=" "))
            table = text.select(text=pl.first(), aspect=aspect, label=pl.Series(labels))
            table.write_csv(file, include_header=not rows)
            rows += count
    return rows


def ingest_rows(folder: Path) -> Figures:
    """rows/ to a snapshot in lake/; validation and test rows beside it for the phase train."""
    from absa.adapters.lake_stores import FolderLake
    from absa.data.ingest import ingest
    from absa.data.snapshot import sample_side

    lake, began = FolderLake(folder / "lake"), time.perf_counter()
    manifest = ingest(lake, [folder / "rows"])
    seconds = time.perf_counter() - began
    for side in ("validation", "test"):
        rows = sample_side(lake, manifest.digest, side, TEST_ROWS).select("text", "aspect", "label", "segment")
        rows.write_ndjson(folder / f"{side}.jsonl")
    (folder / "snapshot.txt").write_text(manifest.digest)
    return {
        "seconds": seconds,
        "mb": megabytes_of(folder),
        "train_rows": manifest.side_rows("train"),
    }


def make_tokens(folder: Path, base: Path) -> Figures:
    """The snapshot's token shards, and how long a training would wait for the first."""
    from absa.adapters.lake_stores import FolderLake
    from absa.data.token_shards import make_shards, plan_shards
    from absa.records.layout import shards_prefix
    from absa.training.rows.shards import ShardCorpus

    lake, digest = FolderLake(folder / "lake"), (folder / "snapshot.txt").read_text()
    began, first = time.perf_counter(), [0.0]
    plan = plan_shards(lake, digest, base / "tokenizer.json", MAX_TOKENS)

    def came(_: int) -> None:
        first[0] = first[0] or time.perf_counter() - began

    make_shards(lake, plan, base / "tokenizer.json", on_shard=came)
    seconds = time.perf_counter() - began
    place = Path(lake.url(shards_prefix(digest, plan.tokenizer)))
    (folder / "tokens").unlink(missing_ok=True)
    (folder / "tokens").symlink_to(place)
    corpus = ShardCorpus(place)
    picked = np.random.default_rng(0).integers(0, len(corpus), 20_000)
    tokens = float(corpus.take(np.sort(picked)).lengths.mean()) * len(corpus)
    return {"seconds": seconds, "first_shard_s": first[0], "tokens": tokens, "shards": len(plan.rows)}


def train(folder: Path, base: Path, *, seconds: float) -> Figures:
    """A job on the shards, as `evergreen train` starts it, and its package's F1 on test rows."""
    ends_at = time.time() + seconds
    job = {
        "settings": {"base_model": str(base), "max_epochs": 1.0},
        "ends_at": ends_at,
        "reserve_s": min(RESERVE_S, 0.25 * seconds),
        "tokens": str((folder / "tokens").resolve()),
    }
    (folder / "job.json").write_text(json.dumps(job))
    child = subprocess.Popen(
        [sys.executable, "-m", "absa.job", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    seen: dict[str, float] = {}
    event: dict[str, Any] = {}
    for line in child.stdout or ():
        event = json.loads(line)
        seen.setdefault(str(event.get("name", event["event"])), time.time())
        if event["event"] == "progress":
            print(f"{event['remaining_s']:.0f} s left, {event['tokens_per_s']:.0f} tokens/s, loss {event['loss']}")
    if child.wait():
        raise SystemExit(f"the training ended with exit code {child.returncode}: {event.get('sentence')}")
    spare_s = ends_at - time.time()
    return {
        "seconds": seconds - spare_s,
        "spare_s": spare_s,
        "load_s": seen["train"] - (ends_at - seconds),
        "train_s": event["train_s"],
        "package_s": event["package_s"],
        "tokens_per_s": event["tokens_per_s"],
        "mfu": event["mfu"],
        "rows_seen": event["rows"],
        "rows_seen_share": event["rows"] / event["choice"]["rows"],
        "deadline_held": float(spare_s >= 0),
        "passes": event["epochs"],
        "candidates": event["choice"]["candidates"],
        "pos_neg_f1": _f1(folder),
    }


def _f1(folder: Path) -> float:
    from absa.evaluation.counts import pos_neg_f1
    from absa.inference.engine import Engine

    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = Engine.load(folder / "package").score([(row["text"], row["aspect"]) for row in rows])
    return pos_neg_f1(np.array([row["label"] for row in rows]), scores.argmax(1))


def rows_of(done: dict[str, Figures], *, scale: float, budget_s: float) -> list[Row]:
    """The result's rows: what was measured, and what the full size would take by the same rates."""
    rows = [
        _row(f"{phase}, {scale * FULL_MB / 1000:g} GB", name, value)
        for phase, found in done.items()
        for name, value in found.items()
    ]
    if set(PHASES) - done.keys():
        return rows
    whole = sum(done[phase]["seconds"] for phase in ("ingest", "tokens", "train"))
    case = f"whole run, {scale * FULL_MB / 1000:g} GB"
    rows.append(_row(case, "seconds", whole, target=f"<= {budget_s:g}", met=whole <= budget_s))
    if scale < 1:
        case = f"{FULL_MB / 1000:g} GB at the rates measured here"
        ingest_s, tokens_s = done["ingest"]["seconds"] / scale, done["tokens"]["seconds"] / scale
        left = BUDGET_S - ingest_s - done["tokens"]["first_shard_s"]
        rows.append(_row(case, "ingest, seconds", ingest_s, projected=True))
        rows.append(_row(case, "all shards, seconds", tokens_s, projected=True))
        rows.append(_row(case, "left of 900 s after ingest and the first shard", left, projected=True))
        rows.append(_row(case, "tokens of a pass", done["tokens"]["tokens"] / scale, projected=True))
        rows.append(
            _row(
                case,
                "tokens/s that one pass in the rest needs",
                done["tokens"]["tokens"] / scale / left,
                projected=True,
            )
        )
    return rows


def _row(case: str, metric: str, value: float, **more: Any) -> Row:
    if metric == "rows_seen_share" and case.endswith(f", {FULL_MB / 1000:g} GB"):
        more |= {"target": f">= {TARGET_SHARE}", "met": value >= TARGET_SHARE}
    if metric == "tokens_per_s" and case.endswith(f", {FULL_MB / 1000:g} GB"):
        more |= {"target": f">= {TARGET_TOKENS:.0f}", "met": value >= TARGET_TOKENS}
    value = round(float(value), 4)
    units = {
        "mb": "MB", "mfu": "share", "rows_seen_share": "share", "deadline_held": "yes", "pos_neg_f1": "f1",
        "tokens_per_s": "tokens/s", "passes": "passes",
    }  # fmt: skip
    unit = units.get(metric, "s" if metric.endswith(("_s", "seconds")) else "count")
    unit = "tokens/s" if metric.startswith("tokens/s") else unit
    return Row(case=case, metric=metric, value=value, low=value, high=value, runs=1, unit=unit, **more)


def main() -> None:
    """Run the phases that are asked for and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", choices=(*PHASES, "all"), default="all")
    parser.add_argument("--scale", type=float, default=None, help="share of 10 GB (default: 1 on a GPU, else 0.01)")
    parser.add_argument("--folder", type=Path, default=None, help="where everything lies (default: a temporary folder)")
    parser.add_argument("--base", default="minilm-l6", help="base model, or its folder")
    parser.add_argument(
        "--budget-s", type=float, default=None, help="of all phases together (default 900 × scale, at least 90)"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    accelerator = gpu_name() if options.phase in ("train", "all") else None
    scale = options.scale or (1.0 if accelerator else SCALE_ON_CPU)
    budget_s = options.budget_s or max(90.0, BUDGET_S * scale)
    with tempfile.TemporaryDirectory(prefix="evergreen-10gb-") as scratch:
        folder: Path = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "figures.json"
        done: dict[str, Figures] = json.loads(kept.read_text()) if kept.exists() else {}
        for phase in PHASES if options.phase == "all" else (options.phase,):
            used = sum(done.get(before, {}).get("seconds", 0.0) for before in ("ingest", "tokens"))
            done[phase] = _step(phase, folder, options.base, scale, budget_s - used)()
            write_json(kept, done)
            print(phase, json.dumps(done[phase]), flush=True)
    found = {}
    for name in ("torch", "onnxruntime", "polars", "pyarrow", "tokenizers", "nanotoken"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    write_result(
        options.out, name="train_10gb", command="make benchmark-train_10gb", seed=0, versions=found,
        rows=rows_of(done, scale=scale, budget_s=budget_s), accelerator=accelerator,
    )  # fmt: skip


def _step(phase: str, folder: Path, base: str, scale: float, left_s: float) -> Callable[[], Figures]:
    from absa.modeling.folders import find_base

    steps: dict[str, Callable[[], Figures]] = {
        "generate": lambda: generate(folder, scale * FULL_MB),
        "ingest": lambda: ingest_rows(folder),
        "tokens": lambda: make_tokens(folder, find_base(base)),
        "train": lambda: train(folder, find_base(base), seconds=left_s),
    }
    return steps[phase]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
