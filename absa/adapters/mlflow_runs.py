"""Tracking runs in MLflow: parameters, live metrics, datasets, pictures and the registered model of a training."""

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


class MlflowRun:
    """An MLflow run that is open while the candidate is made. Its methods raise UnavailableError without MLflow."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.history: list[dict[str, Any]] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """Relay one event of the training process: progress becomes metrics over steps."""
        import mlflow

        if event.get("event") != "progress":
            return
        self.history.append(dict(event))
        values = {name: float(event[name]) for name in _LIVE_METRICS if event.get(name) is not None}
        with _translated():
            mlflow.log_metrics(values, step=int(event["step"]), synchronous=False)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; those that are None are left out."""
        import mlflow

        with _translated():
            mlflow.log_params({name: value for name, value in values.items() if value is not None})

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log final metrics; those that are None are left out."""
        import mlflow

        with _translated():
            mlflow.log_metrics({name: float(value) for name, value in values.items() if value is not None})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
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
        """Store every file of a folder as an artifact."""
        import mlflow

        with _translated():
            mlflow.log_artifacts(str(folder), artifact_path=into)

    def register(self, package: Path) -> str:
        """Log a package as the run's model and register it; a repeated call registers nothing.

        Returns:
            The run's version.

        Raises:
            IntegrityError: the folder holds no complete package.
        """
        from mlflow.tracking import MlflowClient

        from absa.packaging.mlflow_model import log_package

        with _translated():
            known: Any = MlflowClient().search_model_versions(f"name='{MODEL}' and run_id='{self.run_id}'")
        return str(known[0].version) if known else log_package(package, registered_model_name=MODEL).version


class MlflowRuns:
    """Runs of one MLflow server. MLflow is imported on first use.

    Args:
        tracking_uri: address of the server.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri

    @contextmanager
    def open(self, name: str, *, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
        """Open a run with system metrics; it ends FAILED if the body raises.

        Raises:
            UnavailableError: MLflow is unavailable.
        """
        import mlflow
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        mlflow.set_tracking_uri(self._tracking_uri)
        mlflow.set_system_metrics_sampling_interval(5)
        try:
            mlflow.set_experiment(EXPERIMENT)
            run = mlflow.start_run(run_name=name, log_system_metrics=True, tags={"registered_model": MODEL, **tags})
        except (MlflowException, RequestException) as error:
            raise UnavailableError(
                f"MLflow at {self._tracking_uri} is unavailable: nothing was trained; run it again"
            ) from error
        with run:
            yield MlflowRun(run.info.run_id)
            mlflow.flush_async_logging()
