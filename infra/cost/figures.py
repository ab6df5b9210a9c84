"""Measured figures from benchmarks/results: CPU-seconds per prediction, rates, latency, quality."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.capacity.router_task import LATENCY_CASE, own_figures

BenchmarkResults = Mapping[str, Mapping[str, Any]]
SERVING: Final = "make benchmark-serving"
BATCH: Final = "make benchmark-batch"
CACHE_CASE: Final = "cache hit"
_F1: Final = ("f1", "pos_neg_f1")  # names of the quality in results; the second is of the default task


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """Figures of one model on the measured machine. None: not measured.

    Args:
        name: name of the model in the benchmark's rows.
        cpu_s: CPU-seconds of the router's workers per live prediction, at saturation.
        p50_ms: median latency in ms at half of saturation.
        p99_ms: p99 of the latency in ms at half of saturation.
        f1: primary metric of its task, 0 to 1.
        batch_rows_per_core_s: rows per second and core in batch.
    """

    name: str
    cpu_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    f1: float | None = None
    batch_rows_per_core_s: float | None = None

    @property
    def trained(self) -> bool:
        """True if the model may serve. Benchmarks mark a model that was cut for its speed alone as 'untrained'."""
        return "untrained" not in self.name


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of each measured model, CPU-seconds of an answer from the cache, sources, missing measurements."""

    models: tuple[ModelFigures, ...]
    hit_cpu_s: float | None
    sources: tuple[str, ...]
    missing: tuple[str, ...]


def read_results(folder: Path) -> dict[str, Any]:
    """Return every result of a folder by name; empty without the folder."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def figures_of(results: BenchmarkResults, *, declared_f1: Mapping[str, float] | None = None) -> Figures:
    """Find the figures by case and metric, without rows of peers.

    Quality is a row `f1`, or `pos_neg_f1` of the default task, whose case is the model's name, in any result.
    `declared_f1` overrides it.
    """
    serving, batch = own_figures(results.get("serving")), own_figures(results.get("batch"))
    cores = {name: int(results[name]["machine"]["cores"]) for name in ("serving", "batch") if name in results}
    quality = {
        case: value for result in results.values() for (case, metric), value in own_figures(result).items()
        if metric in _F1
    }  # fmt: skip
    quality |= declared_f1 or {}
    suffix = ", saturation"
    names = [case.removesuffix(suffix) for case, metric in serving if metric == "worker_cpu_per_request"]
    models = []
    for name in names:
        rate = next(
            (v for (case, metric), v in batch.items() if metric == "rows_per_s" and case.startswith(name)), None
        )
        models.append(
            ModelFigures(
                name=name,
                cpu_s=serving[name + suffix, "worker_cpu_per_request"] / 1e6,
                p50_ms=serving.get((f"{name}, {LATENCY_CASE}", "p50")),
                p99_ms=serving.get((f"{name}, {LATENCY_CASE}", "p99")),
                f1=quality.get(name),
                batch_rows_per_core_s=None if rate is None else rate / cores["batch"],
            )
        )
    hits = serving.get((CACHE_CASE, "requests_per_s"))
    hit_cpu_s = None if hits is None else cores["serving"] / hits
    return Figures(
        models=tuple(models),
        hit_cpu_s=hit_cpu_s,
        sources=tuple(
            f"{name}.json of {found['date']}, commit {found['commit']}, {found['machine']['cpu']}"
            for name in ("serving", "batch")
            if (found := results.get(name))
        ),
        missing=tuple(_missing(models, hit_cpu_s, batch)),
    )


def _missing(models: list[ModelFigures], hit_cpu_s: float | None, batch: Mapping[Any, float]) -> list[str]:
    """Return a sentence for each missing measurement."""
    if not models:
        return [f"No CPU time per live prediction: run `{SERVING}`."]
    said = []
    if hit_cpu_s is None:
        said.append(f"No rate of answers from the cache: run `{SERVING}`.")
    if not batch:
        said.append(f"No batch rates: run `{BATCH}`.")
    for model in models:
        if model.p99_ms is None:
            said.append(f"{model.name}: no p99 at half load; a simulated one is used.")
        if not model.trained:
            said.append(f"{model.name}: measured for its speed alone; it cannot be chosen.")
        elif model.f1 is None:
            said.append(f"{model.name}: no F1, so it meets no quality floor (--f1 declares one).")
    return said
