"""A batch on a local Ray cluster of two cores: the rows that local processes give, S3 in and out, plain errors.

Each batch runs in a process of its own, as it does for a user: Ray started a second time in one process can crash it,
when a thread of the first start still runs.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="needs the extra ray: make ray")

from absa.adapters.lake_stores import FolderLake
from absa.batch.batch_job import BatchJob, BatchResult, run_batch
from absa.batch.local import LocalProcesses
from absa.batch.ray_cluster import RayCluster
from absa.batch.verify_batch import verify_batch
from absa.errors import IntegrityError
from tests.s3_server import s3_server
from tests.toy_package import build_toy_package

TWO = RayCluster(workers=2)


def write_rows(path: Path, count: int) -> Path:
    lines = [f"{k},the app is {'great' if k % 3 else 'slow'} {k % 7},app" for k in range(count)]
    path.write_text("\n".join(["id,text,aspect", *lines]) + "\n")
    return path


def run_on_ray(job: BatchJob, engines: RayCluster = TWO) -> BatchResult:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
        return own.submit(run_batch, job, engines=engines).result()


@pytest.mark.slow
def test_ray_on_s3_answers_like_local_processes(tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    path = write_rows(tmp_path / "rows.csv", 400)
    run_batch(
        BatchJob(
            input_uri=str(path), output_uri=str(tmp_path / "here"), package=package, version="7", partition_rows=100
        ),
        engines=LocalProcesses(workers=0),
    )
    with s3_server() as client:
        client.create_bucket(Bucket="ray-rows")
        client.upload_file(str(path), "ray-rows", "in/rows.csv")
        job = BatchJob(
            input_uri="s3://ray-rows/in/",
            output_uri="s3://ray-rows/out",
            package=package,
            version="7",
            partition_rows=100,
        )
        assert run_on_ray(job).manifest["rows"] == 400
        assert verify_batch("s3://ray-rows/out") == []
        assert run_batch(job, engines=TWO).already_done, "nothing is left to score, so Ray is not started"
        client.download_file("ray-rows", "out/part-000002.parquet", str(tmp_path / "part.parquet"))
    there = pq.read_table(tmp_path / "part.parquet").drop_columns(["scored_at"])
    here = pq.read_table(tmp_path / "here" / "part-000002.parquet").drop_columns(["scored_at"])
    assert there.equals(here)


@pytest.mark.slow
def test_worker_error_reads_like_local_one(tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    (package / "model.onnx").write_bytes(b"nonsense")
    job = BatchJob(
        input_uri=str(write_rows(tmp_path / "rows.csv", 50)),
        output_uri=str(tmp_path / "out"),
        package=package,
        version="7",
    )
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        run_on_ray(job, RayCluster(workers=1))
    assert not FolderLake(tmp_path / "out").exists("manifest.json")
