"""What a training run leaves in MLflow: parameters, live metrics, its dataset, pictures and the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from absa.adapters.registry import MODEL
from absa.errors import UnavailableError

EXPERIMENT: Final = "continuous-training"
_LIVE_METRICS: Final = ("loss", "lr", "tokens_per_s", "epoch", "remaining_s", "validation_pos_neg_f1")


@contextmanager
def _translated() -> Iterator[None]:
    """Translate MLflow's errors.

    Raises:
        UnavailableError: MLflow is unavailable or refuses.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        raise UnavailableError(f"MLflow is unavailable: {error}") from error


class TrackedRun:
    """An MLflow run that is open while the candidate is made. Its methods raise UnavailableError without MLflow."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._history: list[dict[str, Any]] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """Relay one event of the training process: progress becomes metrics over steps."""
        import mlflow

        if event.get("event") != "progress":
            return
        self._history.append(dict(event))
        values = {name: float(event[name]) for name in _LIVE_METRICS if event.get(name) is not None}
        with _translated():
            mlflow.log_metrics(values, step=int(event["step"]), synchronous=False)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The progress events so far, in order."""
        return self._history

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters of the run."""
        import mlflow

        with _translated():
            mlflow.log_params({name: value for name, value in values.items() if value is not None})

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Final metrics; those that are None are left out."""
        import mlflow

        with _translated():
            mlflow.log_metrics({name: float(value) for name, value in values.items() if value is not None})

    def tags(self, values: Mapping[str, str]) -> None:
        """Tags of the run."""
        import mlflow

        with _translated():
            mlflow.set_tags(dict(values))

    def dataset(self, rows: Any | None, *, digest: str, side: str, source: str) -> None:
        """Name a side of the snapshot as the run's input. Of a pandas frame MLflow keeps schema and size."""
        import mlflow

        name = f"snapshot-{side}"
        if rows is None:
            from mlflow.data.dataset_source_registry import resolve_dataset_source
            from mlflow.data.meta_dataset import MetaDataset

            dataset: Any = MetaDataset(resolve_dataset_source(source), name=name, digest=digest[:36])
        else:
            dataset = mlflow.data.from_pandas(rows, source=source, name=name, digest=digest[:36])
        with _translated():
            mlflow.log_input(dataset, context=side)

    def files(self, folder: Path, *, into: str) -> None:
        """Every file of a folder as an artifact."""
        import mlflow

        with _translated():
            mlflow.log_artifacts(str(folder), artifact_path=into)


@contextmanager
def tracked_run(name: str, *, tracking_uri: str, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """Open an MLflow run with system metrics; it ends FAILED if the body raises.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_system_metrics_sampling_interval(5)
    try:
        mlflow.set_experiment(EXPERIMENT)
        run = mlflow.start_run(run_name=name, log_system_metrics=True, tags={"registered_model": MODEL, **tags})
    except (MlflowException, RequestException) as error:
        raise UnavailableError(f"MLflow at {tracking_uri} is unavailable: nothing was trained; run it again") from error
    with run:
        yield TrackedRun(run.info.run_id)
        mlflow.flush_async_logging()
