"""Batch on a Ray cluster: Ray Data maps the partition function over the partitions, with one actor per core.

Ray does the scheduling, the retries after a lost worker or machine, and the growing of the pool. The model's package
is sent once per machine through Ray's object store. Every machine must have access to input and output (s3:// or a
shared folder). Needs the extra `ray`.
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
        address: address of a running cluster (`auto`, ray://host:10001); None: a cluster is started on this machine
            and ended after the job.
        workers: largest number of actors, one core each; None: the number of the cluster's cores at the start. The
            pool grows up to this number while partitions wait. For an autoscaling cluster, give its largest number of
            cores.
    """

    address: str | None = None
    workers: int | None = None

    def run(
        self,
        assignment: Assignment,
        missing: Callable[[], Iterator[Partition]],
        note: Callable[[PartitionCommit], None],
    ) -> None:
        """Score every partition that `missing` yields, and call `note` when a partition is committed.

        Raises:
            PermanentError: Ray is not installed.
            UnavailableError: the cluster is unavailable, or lost more workers than Ray's retries could replace.
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
        else:  # other machines have the image's libraries; this code is sent to them
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
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(  # one task per partition
        _RayWorker,
        fn_constructor_args=(assignment, [ray.put(files)]),  # in a list, so that a restarted actor fetches it again
        compute=ray.data.ActorPoolStrategy(min_size=1 if most > 1 else most, max_size=most, initial_size=most),
        num_cpus=1,
    )
    yield from dataset.iter_rows()


class _RayWorker:
    """Actor that loads the model once and scores partitions."""

    def __init__(self, assignment: Assignment, files: list[Any]) -> None:
        self._assignment, self._files = assignment, files
        self._folder = tempfile.TemporaryDirectory(prefix="evergreen-batch-")
        self._worker: PartitionWorker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the partition's commit, or our own error as a value, because Ray would wrap a raised error."""
        given = dict(row["partition"])
        given["spans"] = tuple(RowSpan(**each) for each in given["spans"])
        try:
            if self._worker is None:  # not in the constructor: the caller does not receive its errors
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
