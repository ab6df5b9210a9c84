"""Use case: score a batch with a version. The command line and the flow both call `score_batch`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from absa.adapters.lake_stores import open_lake
from absa.batch.batch_job import PARTITION_ROWS, BatchJob, BatchProgress, BatchResult, Engines, run_batch
from absa.data.files import MAX_BAD_SHARE
from absa.errors import PermanentError
from absa.inference.package import ModelPackage, load_package
from absa.records.cost import read_cost
from flows.platform.services import Services

REGISTRY: Final = "models:/"
ENGINES: Final = ("local", "ray")
_DIGEST: Final = 12


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """Request to score an input. `model` is None for the champion; the command's help describes the other fields."""

    input_uri: str
    output_uri: str
    model: str | None = None
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    partition_rows: int = PARTITION_ROWS
    max_bad_share: float = MAX_BAD_SHARE
    log: bool = False
    drift_report: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """Result of a batch. `drift` has a sentence per drifted column; None if no report was requested."""

    result: BatchResult
    drift: tuple[str, ...] | None = None


def score_batch(
    services: Services,
    request: BatchRequest,
    *,
    engines: Engines | None = None,
    on_progress: Callable[[BatchProgress], None] = lambda _: None,
) -> BatchOutcome:
    """Score the rows that no earlier run scored, and write the drift report if it is requested.

    Args:
        services: lake, ledger and packages.
        request: input, output, version and engine.
        engines: replace the engine of the request.
        on_progress: called after every partition.

    Raises:
        PermanentError: version, engine or a number of the request is invalid, or see `run_batch`.
        TransientError: see `run_batch`.
    """
    chosen = engines or engines_of(request)
    package, version = find_version(services, request.model)
    job = BatchJob(
        input_uri=_absolute(request.input_uri),
        output_uri=_absolute(request.output_uri),
        package=package.folder,
        version=version,
        partition_rows=request.partition_rows,
        max_bad_share=request.max_bad_share,
        log_uri=services.settings.lake_uri if request.log else None,
        secret=services.home.unit_secret().encode() if request.log else b"",
        redact_text=services.settings.redact_text,
        mapping=services.settings.data,
    )
    result = run_batch(job, engines=chosen, on_progress=on_progress)
    drift = None
    if request.drift_report:
        drift = _drift_sentences(services, job, result, package)
    return BatchOutcome(result=result, drift=drift)


def find_version(services: Services, model: str | None) -> tuple[ModelPackage, str]:
    """Return the package of models:/NAME@champion, @challenger, models:/NAME/<version>, or of a folder.

    NAME is the home's task; a `model` of None is its champion. The ledger resolves an alias, so the result is the
    active version even if MLflow's alias is outdated.

    Raises:
        PermanentError: alias or version is unknown.
        IntegrityError: the files differ from the registered ones, or a folder holds no package.
    """
    prefix = f"{REGISTRY}{services.settings.task.name}"
    champion = f"{prefix}@champion"
    model = champion if model is None else model
    if not model.startswith("models:"):
        if not Path(model).is_dir():
            raise PermanentError(f"expected {champion}, {prefix}/<version> or the folder of a package, got {model}")
        package = load_package(Path(model))
        return package, package.digest[:_DIGEST]
    name = model.removeprefix(prefix)
    head = services.head()
    aliases = {"@champion": head.state.champion, "@challenger": head.state.challenger}
    version = aliases.get(name, name.removeprefix("/") if name.startswith("/") else None)
    if version is None or version not in head.versions:
        known = ", ".join(f"{prefix}/{each}" for each in head.versions) or "none"
        raise PermanentError(
            f"expected {champion}, {prefix}@challenger (during an experiment) or one of {known}; got {model}"
        )
    return services.packages.get(version, head.versions[version]), version


def engines_of(request: BatchRequest) -> Engines:
    """Return the engines of a request.

    Raises:
        PermanentError: the engine is unknown, or a number is out of range.
    """
    from absa.batch.local import LocalProcesses

    if request.engine not in ENGINES:
        raise PermanentError(f"--engine: expected local or ray, got {request.engine!r}")
    if request.engine == "local" and request.address is not None:
        raise PermanentError("--address names a Ray cluster; use it with --engine ray")
    if request.partition_rows < 1 or (request.workers or 0) < 0 or not 0 <= request.max_bad_share <= 1:
        raise PermanentError("expected partition rows >= 1, workers >= 0 and a share of bad rows from 0 to 1")
    if request.engine == "ray":
        from absa.batch.ray_cluster import RayCluster

        return RayCluster(address=request.address, workers=request.workers or None)
    return LocalProcesses(workers=request.workers)


def usd_per_row(services: Services) -> float | None:
    """Return the price of a row from the last `evergreen cost`; None if it never ran."""
    cost = read_cost(services.lake)
    return None if cost is None or cost.usd_per_million_batch is None else cost.usd_per_million_batch / 1e6


def said(progress: BatchProgress, each_usd: float | None) -> str:
    """Return the progress of a job, in a few words."""
    words = [f"{progress.share:.0%}", f"{progress.rows:,} rows", f"{progress.rows_per_s:,.0f} rows/s"]
    if progress.eta_s is not None:
        words.append(f"{_duration(progress.eta_s)} left")
    if each_usd is not None:
        words.append(f"about US$ {progress.rows * each_usd:.4f} so far")
    return ", ".join(words)


def batch_summary(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a job as rows of a table: counts, class shares, time."""
    rows, bad = manifest["rows"], sum(manifest["quarantined"].values())
    table = [
        {"what": "version", "value": manifest["model_version"]},
        {"what": "rows read", "value": f"{rows + bad:,} = {rows:,} scored + {bad:,} quarantined"},
        {"what": "rows scored", "value": f"{rows:,}"},
        {"what": "rows quarantined", "value": f"{bad:,}"},
    ]
    table += [{"what": f"quarantined: {reason}", "value": f"{n:,}"} for reason, n in manifest["quarantined"].items()]
    table += [
        {"what": f"share {name}", "value": f"{count / max(1, rows):.1%}"} for name, count in labels_of(manifest).items()
    ]
    if manifest.get("as_written"):  # earlier releases did not count them
        table.append({"what": "stray double quotes", "value": _stray_quotes(manifest)})
    table.append({"what": "time of the last run", "value": _duration(manifest["elapsed_s"])})
    return table


def labels_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of rows per label, in label order. Manifests of earlier releases have `by_sentiment`."""
    found: dict[str, int] = manifest.get("by_label") or manifest["by_sentiment"]
    return found


def _stray_quotes(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['as_written']:,} rows read as written; the first is {manifest['first_as_written']}"


def _drift_sentences(services: Services, job: BatchJob, result: BatchResult, package: ModelPackage) -> tuple[str, ...]:
    from absa.inference.engine import Engine
    from monitoring.batch_drift import report_batch_drift

    found = report_batch_drift(
        open_lake(job.output_uri),
        result.manifest,
        services.lake,
        Engine.load(package),
        false_alarm_rate=services.settings.staleness.false_alarm_rate,
    )
    return (found.too_small,) if found.too_small else tuple(each.sentence for each in found.drifted)


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
