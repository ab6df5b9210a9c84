"""MLflow adapter: tracking runs, registered versions, aliases, and packages as MLflow models.

Only this module, `mlflow_files.py`, the model's own code (`absa/packaging/pyfunc_model.py`), MLflow's server and the
script of the assignment import MLflow. The import takes seconds, so it happens on first use.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

import absa
from absa.adapters.mlflow_files import MlflowFiles
from absa.errors import NotFoundError, UnavailableError
from absa.inference.package import CONFIG_FILE, PACKAGE_FILES, ModelPackage, load_package
from absa.ledger.projection import project_head
from absa.ledger.record import LedgerRecord
from absa.proxies import is_local, require_route
from absa.task import ABSA, TaskSpec

MODEL: Final = ABSA.name
EXPERIMENT: Final = "continuous-training"
HEAD_NUMBER: Final = "ledger_number"  # tags of the registered model: the ledger's head when aliases were last set
HEAD_HASH: Final = "ledger_hash"
REQUIREMENTS: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "tokenizers")
TRAVELLING_CODE: Final = ("__init__.py", "errors.py", "task.py", "inference")
"""Modules of `absa` that go into an MLflow model: those that score a row."""

_ARTIFACTS: Final = "artifacts"  # folder in which an MLflow pyfunc model keeps its files
_ANY: Final = "MLflow"  # name of the open run's server in messages
_CONNECT_S: Final = 5.0
_READ_LIMIT_S: Final = 10.0
_USERS_LIMIT: Final = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # MLflow's own variable
_LIVE_METRICS: Final = ("loss", "lr", "tokens_per_s", "epoch", "remaining_s", "validation_f1", "validation_pos_neg_f1")
_MISSING: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_MODEL_NOTE: Final = (
    "The alias champion shows the version that answers, challenger the one under test. Evergreen's ledger sets them, "
    "also where they were moved by hand: promote with `evergreen promote VERSION`. The button *Promote model* copies a "
    "version to another registered model; it changes nothing that answers."
)
_RUN_NOTE: Final = (
    "Two splits have an F1. validation_f1 is of the validation split, which the training looks at: it is a little too "
    "high. test_f1 is of the test split, which no training sees: the gate compares it, and you can expect it in use."
)
_EXAMPLE_TEXT: Final = "the route planner is great, but the ticket machine never works"
_EXAMPLE_PHRASES: Final = ("route planner", "ticket machine")


@contextmanager
def _translated(server: str, *, missing: frozenset[str] = frozenset()) -> Iterator[None]:
    """Translate MLflow's errors.

    Args:
        server: name of the server in messages.
        missing: MLflow's error codes for things that do not exist.

    Raises:
        NotFoundError: MLflow answers with a code of `missing`.
        UnavailableError: MLflow is unavailable or refuses the request.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code in missing:
            raise NotFoundError(f"{server}: {error.message}") from error
        raise UnavailableError(f"{server} answered: {error.message}") from error
    except SQLAlchemyError as error:  # if this process opens MLflow's database itself
        raise UnavailableError(f"{server} cannot be read or written: {type(error).__name__}") from error
    except RequestException as error:
        raise UnavailableError(f"{server} is unavailable: {type(error).__name__}") from error


class MlflowRegistry:
    """One registered model in an MLflow server, or in the files of a server that does not run.

    Args:
        server: address of the server, or its files.
        model: name of the registered model.
        environment: of this process; read for proxies, and for MLFLOW_HTTP_REQUEST_TIMEOUT. If that variable is set,
            `read_limit_s` is ignored.
        read_limit_s: limit of one read with all its retries, in seconds; packages take longer to download.
    """

    def __init__(
        self,
        server: str | MlflowFiles,
        model: str = MODEL,
        *,
        environment: Mapping[str, str] = os.environ,
        read_limit_s: float = _READ_LIMIT_S,
    ) -> None:
        self.model = model
        self._files = server if isinstance(server, MlflowFiles) else None
        self.tracking_uri = server.database if isinstance(server, MlflowFiles) else server
        self._server = f"MLflow at {self.tracking_uri}"
        self._environment = environment
        self._read_limit_s = read_limit_s
        self._made: Any = None

    def _client(self) -> Any:
        """Return MLflow's client. The first call creates it, because its import takes seconds."""
        if self._made is None:
            require_route(self.tracking_uri, self._environment)
            from mlflow.tracking import MlflowClient

            if self._files is not None:
                self._files.open()
            self._made = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        return self._made

    def _require_server(self) -> None:
        """Raise UnavailableError at once if no server listens: MLflow's client would try for many seconds.

        The same error is raised if the server's files do not exist yet, because a reader creates no files.
        """
        if self._files is not None and self._files.is_missing:
            raise UnavailableError(f"{self._server} has no version yet: `evergreen train` registers the first version")
        parts = urlsplit(self.tracking_uri)
        if not is_local(self.tracking_uri) or parts.hostname is None or parts.port is None:
            return
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise UnavailableError(f"{self._server} is unavailable: {error.strerror}") from None

    def _read(self, action: str, *arguments: str) -> Any:
        self._require_server()
        self._client()  # the import takes seconds, which must not count against the server's limit
        if self._environment.get(_USERS_LIMIT) or not self.tracking_uri.startswith(("http://", "https://")):
            return self._call(action, *arguments)
        answer: Future[Any] = Future()

        def call() -> None:
            try:
                answer.set_result(self._call(action, *arguments))
            except BaseException as error:  # `answer.result` raises it in the reader's thread
                answer.set_exception(error)

        # MLflow's limits are variables of the whole process: shorter ones would also end uploads in other threads
        Thread(target=call, name=f"mlflow-{action}", daemon=True).start()
        try:
            return answer.result(timeout=self._read_limit_s)
        except TimeoutError:
            raise UnavailableError(
                f"{self._server} is unavailable: it did not answer within {self._read_limit_s:g} s; "
                f"{_USERS_LIMIT} sets another limit"
            ) from None

    def _call(self, action: str, *arguments: str) -> Any:
        """Call a method of the client and translate its exceptions."""
        with _translated(self._server, missing=_MISSING):
            return getattr(self._client(), action)(*arguments)

    def tags(self, version: str) -> dict[str, str]:
        """Return the tags of a version.

        Raises:
            NotFoundError: there is no such version.
            UnavailableError: MLflow is unavailable.
        """
        found = self._read("get_model_version", self.model, version)
        return dict(found.tags)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._call("set_model_version_tag", self.model, version, key, value)

    def versions(self) -> list[str]:
        """Return every version, oldest first; empty if none was registered."""
        found = self._read("search_model_versions", f"name='{self.model}'")
        return sorted((str(item.version) for item in found), key=int)

    def download(self, version: str, folder: Path) -> Path:
        """Download a version's package below a folder and return the folder of the package.

        Raises:
            NotFoundError: the version does not exist, or MLflow's artifacts lack its package.
            UnavailableError: MLflow or its storage is unavailable, or the folder cannot be written.
        """
        source = self._read("get_model_version_download_uri", self.model, version)
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException

        found = ""
        with _translated(self._server, missing=_MISSING):
            try:
                found = download_artifacts(
                    artifact_uri=f"{source}/{_ARTIFACTS}", dst_path=str(folder), tracking_uri=self.tracking_uri
                )
            except (MlflowException, RequestException):
                raise
            except FileNotFoundError:
                pass
            except Exception as error:  # each artifact storage has its own exceptions, such as botocore's for S3
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise UnavailableError(
                    f"the package of version {version} cannot be downloaded from {self._server}: {reason}; "
                    "give this process access to MLflow's artifacts and free disk, then try again"
                ) from error
        if not Path(found, CONFIG_FILE).is_file():
            raise NotFoundError(f"{self._server} has no package of version {version}")
        return Path(found)

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""
        try:
            model = self._read("get_registered_model", self.model)
        except NotFoundError:
            return {}
        return {alias: str(version) for alias, version in dict(model.aliases).items()}

    def anchor(self) -> tuple[int, str] | None:
        """Return the number and hash that the ledger's head had when aliases were last set; None if never set."""
        try:
            tags = self._read("get_registered_model", self.model).tags
        except NotFoundError:
            return None
        return (int(tags[HEAD_NUMBER]), tags[HEAD_HASH]) if HEAD_NUMBER in tags and HEAD_HASH in tags else None

    def project(self, head: LedgerRecord) -> list[str]:
        """Set the aliases champion and challenger as in the head; see `project_head`."""
        return project_head(self, head)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set an alias to a version; None removes it."""
        if version is None:
            self._call("delete_registered_model_alias", self.model, alias)
        else:
            self._call("set_registered_model_alias", self.model, alias, version)

    def set_anchor(self, number: int, digest: str) -> None:
        """Store hash and number of the projected head, the number last, so that a killed projection can be detected."""
        self._call("set_registered_model_tag", self.model, HEAD_HASH, digest)
        self._call("set_registered_model_tag", self.model, HEAD_NUMBER, str(number))


class MlflowRun:
    """MLflow run that is open while the candidate is made. Its methods raise UnavailableError without MLflow."""

    def __init__(self, run_id: str, model: str = MODEL) -> None:
        self.run_id, self._model = run_id, model
        self.history: list[dict[str, Any]] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """Relay one event of the training process: progress becomes metrics over steps."""
        import mlflow

        if event.get("event") != "progress":
            return
        self.history.append(dict(event))
        values = {name: float(event[name]) for name in _LIVE_METRICS if event.get(name) is not None}
        with _translated(_ANY):
            mlflow.log_metrics(values, step=int(event["step"]), synchronous=False)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; values of None are left out."""
        import mlflow

        with _translated(_ANY):
            mlflow.log_params({name: value for name, value in values.items() if value is not None})

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log final metrics; values of None are left out."""
        import mlflow

        with _translated(_ANY):
            mlflow.log_metrics({name: float(value) for name, value in values.items() if value is not None})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        import mlflow

        with _translated(_ANY):
            mlflow.set_tags(dict(values))

    def dataset(self, rows: Any | None, *, digest: str, side: str, source: str) -> None:
        """Log one side of the snapshot as the run's input. MLflow keeps the schema and size of a pandas frame."""
        import mlflow

        name = f"snapshot-{side}"
        if rows is None:
            from mlflow.data.dataset_source_registry import resolve_dataset_source
            from mlflow.data.meta_dataset import MetaDataset

            dataset: Any = MetaDataset(resolve_dataset_source(source), name=name, digest=digest[:36])
        else:
            dataset = mlflow.data.from_pandas(rows, source=source, name=name, digest=digest[:36])
        with _translated(_ANY):
            mlflow.log_input(dataset, context=side)

    def files(self, folder: Path, *, into: str) -> None:
        """Store every file of a folder as an artifact."""
        import mlflow

        with _translated(_ANY):
            mlflow.log_artifacts(str(folder), artifact_path=into)

    def register(self, package: Path) -> str:
        """Log a package as the run's model and register it; a repeated call registers no second version.

        Returns:
            The run's version.

        Raises:
            IntegrityError: the folder holds no complete package.
        """
        from mlflow.tracking import MlflowClient

        with _translated(_ANY):
            known: Any = MlflowClient().search_model_versions(f"name='{self._model}' and run_id='{self.run_id}'")
        return str(known[0].version) if known else log_package(package, registered_model_name=self._model).version


class MlflowRuns:
    """Runs of one MLflow server, or in the files of a server that does not run. MLflow is imported on first use.

    Args:
        server: address of the server, or its files.
        model: name of the registered model, which is the name of the task.
    """

    def __init__(self, server: str | MlflowFiles, model: str = MODEL) -> None:
        self._files = server if isinstance(server, MlflowFiles) else None
        self._tracking_uri, self._model = server.database if isinstance(server, MlflowFiles) else server, model

    def prepare(self) -> None:
        """Create the database of a server that does not run, once; MLflow takes seconds to create its tables.

        Raises:
            UnavailableError: the database cannot be created.
        """
        if self._files is None or not self._files.is_missing:
            return
        from mlflow.tracking import MlflowClient

        self._files.open()
        with _translated(f"MLflow at {self._tracking_uri}"):
            MlflowClient(tracking_uri=self._tracking_uri).search_experiments(max_results=1)

    @contextmanager
    def open(self, name: str, *, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
        """Open a run with system metrics; its status becomes FAILED if the body raises.

        Raises:
            UnavailableError: MLflow is unavailable at the start of the run, or after the body has ended.
        """
        import mlflow
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        outages = (MlflowException, RequestException, SQLAlchemyError)
        if self._files is not None:
            self._files.open()
        mlflow.set_tracking_uri(self._tracking_uri)
        mlflow.set_system_metrics_sampling_interval(5)
        try:
            mlflow.set_experiment(EXPERIMENT)
            named = {"registered_model": self._model, **tags}
            run = mlflow.start_run(run_name=name, log_system_metrics=True, tags=named, description=_RUN_NOTE)
        except outages as error:
            raise UnavailableError(
                f"MLflow at {self._tracking_uri} is unavailable: nothing was trained; run it again"
            ) from error
        try:
            yield MlflowRun(run.info.run_id, self._model)
        except BaseException:
            with suppress(*outages):  # an outage must not hide why the body failed
                mlflow.end_run("FAILED")
            raise
        with _translated(_ANY):
            try:
                mlflow.flush_async_logging()
            finally:  # MLflow refuses a new run while this process has an open one
                mlflow.end_run()


@dataclass(frozen=True, kw_only=True)
class LoggedPackage:
    """Place of a logged package. `version` is empty if the package was not registered."""

    model_uri: str
    version: str


def log_package(folder: Path, *, registered_model_name: str | None = None) -> LoggedPackage:
    """Log a package to the active MLflow run, and register it as a new version when a name is given.

    The version has the digest, size and student as tags, and the model card as its description. The caller sets tags
    that depend on the data or the gate.

    Args:
        folder: a complete package; files that are not needed for answers may be missing.
        registered_model_name: the registered model that gets a new version.

    Raises:
        IntegrityError: the folder holds no complete package.
        UnavailableError: MLflow refuses or is unavailable.
    """
    import mlflow

    package = load_package(folder)
    files = {file: str(folder / file) for file in PACKAGE_FILES if (folder / file).is_file()}
    with _translated(_ANY), tempfile.TemporaryDirectory() as staged:
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(absa.__file__).parent / "packaging" / "pyfunc_model.py"),
            artifacts=files,
            code_paths=[str(_stage_code(Path(staged)))],
            signature=_signature(package.config.task),
            input_example=_example(package.config.task),
            pip_requirements=[f"{each}=={installed_version(each)}" for each in REQUIREMENTS],
            registered_model_name=registered_model_name,
        )
        version = str(logged.registered_model_version or "")
        if registered_model_name and version:
            _describe(registered_model_name, version, package)
    return LoggedPackage(model_uri=str(logged.model_uri), version=version)


def _stage_code(folder: Path) -> Path:
    """Copy `TRAVELLING_CODE` to a folder and return the path of the copy."""
    source, target = Path(absa.__file__).parent, folder / "absa"
    target.mkdir()
    for name in TRAVELLING_CODE:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, target / name)
    return target


def _describe(model: str, version: str, package: ModelPackage) -> None:
    from mlflow.tracking import MlflowClient

    client: Any = MlflowClient()
    tags = {
        "digest": package.digest,
        "size_mb": f"{package.size_mb:.1f}",
        "student": f"L{package.config.layers}-{package.config.hidden}",
    }
    for key, value in tags.items():
        client.set_model_version_tag(model, version, key, value)
    card = package.folder / "model_card.md"
    if card.is_file():
        client.update_model_version(model, version, description=card.read_text(encoding="utf-8"))
    if not client.get_registered_model(model).description:  # a description that an operator wrote is kept
        client.update_registered_model(model, description=_MODEL_NOTE)


def _signature(task: TaskSpec) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    names = ["name", "sentiment"] if task.extends(ABSA) else ["name"]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column) for column in _example(task)]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "label"),
                *(ColSpec(DataType.string, name) for name in names),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(DataType.boolean, "truncated"),
            ]
        ),
    )


def _example(task: TaskSpec) -> Any:
    import pandas as pd

    texts = {"text": [_EXAMPLE_TEXT] * len(_EXAMPLE_PHRASES)}
    return pd.DataFrame({**texts, task.phrase: list(_EXAMPLE_PHRASES)} if task.phrase else texts)
