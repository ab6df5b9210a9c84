"""A batch on a Ray cluster: Ray Data maps the partition function over the partitions, with one actor per core.

Scheduling, retries after a lost worker or machine, and growing the pool are Ray's. The model's package travels through
Ray's object store, once a machine; input and output must be where every machine sees them (s3:// or a shared folder).
Needs the extra `ray`.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from absa.batch.batch_input import Partition, RowSpan
from absa.batch.local import cores
from absa.batch.partition_job import Assignment, PartitionCommit, PartitionWorker
from absa.errors import EvergreenError, PermanentError, UnavailableError
from absa.inference.package import PACKAGE_FILES


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """Score on Ray.

    Args:
        address: of a running cluster (`auto`, ray://host:10001); None starts one on this machine and ends it after.
        workers: most actors, one core each; None is the cluster's cores at the start. The pool grows up to it with
            what waits, so an autoscaling cluster should be given the number that it may grow to.
    """

    address: str | None = None
    workers: int | None = None

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        """Score every partition that `missing` gives, and note each when it is committed.

        Raises:
            PermanentError: Ray is not installed.
            UnavailableError: the cluster is unavailable, or lost more than Ray's retries could bring back.
        """
        items = [asdict(each) for each in missing()]
        if not items:
            return
        ray = self._connect()
        try:
            most = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            for row in _mapped(ray, assignment, items, most):
                if isinstance(row["found"], EvergreenError):
                    raise row["found"]
                note(row["found"])
        except ray.exceptions.RayError as error:
            raise UnavailableError(f"the Ray cluster failed the batch: {type(error).__name__}; run it again") from error
        finally:
            ray.shutdown()

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError:
            raise PermanentError(
                "--engine ray needs Ray: run `make ray`, or install the extra evergreen[ray]"
            ) from None
        import absa

        if self.address is None:
            here: dict[str, Any] = {"address": "local", "num_cpus": self.workers or cores(), "include_dashboard": False}
        else:  # other machines have the libraries of the image, and this code
            here = {"address": self.address, "runtime_env": {"py_modules": [absa]}}
        try:
            ray.init(configure_logging=False, log_to_driver=False, **here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UnavailableError(f"no Ray cluster answers at {self.address or 'this machine'}: {error}") from error
        return ray


def _mapped(ray: Any, assignment: Assignment, items: list[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    files = {name: path.read_bytes() for name in PACKAGE_FILES if (path := assignment.package / name).is_file()}
    most = min(most, len(items))
    rows = [{"partition": each} for each in items]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(  # a partition is a task of its own
        _RayWorker,
        fn_constructor_args=(assignment, [ray.put(files)]),  # in a list: an actor that restarts fetches it itself
        compute=ray.data.ActorPoolStrategy(min_size=1 if most > 1 else most, max_size=most, initial_size=most),
        num_cpus=1,
    )
    yield from dataset.iter_rows()


class _RayWorker:
    """An actor: loads the model once."""

    def __init__(self, assignment: Assignment, files: list[Any]) -> None:
        self._assignment, self._files = assignment, files
        self._folder = tempfile.TemporaryDirectory(prefix="evergreen-batch-")
        self._worker: PartitionWorker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the partition's counts, or our own error as a value: raised here it would arrive as one of Ray's."""
        given = dict(row["partition"])
        given["spans"] = tuple(RowSpan(**each) for each in given["spans"])
        try:
            if self._worker is None:  # not while the actor is made: what goes wrong there reaches nobody
                self._worker = self._load()
            return {"found": self._worker.score(Partition(**given))}
        except EvergreenError as error:
            return {"found": error}

    def _load(self) -> PartitionWorker:
        import ray

        folder = Path(self._folder.name)
        for name, data in ray.get(self._files[0]).items():
            (folder / name).write_bytes(data)
        return PartitionWorker(replace(self._assignment, package=folder))
