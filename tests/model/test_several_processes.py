"""Several processes train one model: the same result as one alone, and a clean end when one of them dies."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from absa.modeling.bases import load_base
from tests.conftest import ROOT, finish, job_here, labelled_rows, write_job
from tests.tiny_encoders import save_bert

pytest.importorskip("torch.distributed")


def start(folder: Path, world: int) -> "list[subprocess.Popen[str]]":
    """Start the processes of a job as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        environment = os.environ | {
            "WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "absa.job", str(folder)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return children


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base model, so that three trainings take seconds."""
    return save_bert(tmp_path_factory.mktemp("base") / "small", layers=2, heads=4)


def job(folder: Path, base: Path, **more: object) -> Path:
    settings = {"base_model": str(base), "max_epochs": 3, "batches_per_step": 2, "precision": "fp32", "seed": 5} | more
    return write_job(folder, budget_s=5_000, reserve_s=20, settings=settings, rows=labelled_rows(150))


def test_two_processes_give_the_model_that_one_gives(tmp_path: Path, small_base: Path) -> None:
    alone, both = (job(tmp_path / name, small_base) for name in ("alone", "both"))
    children = start(both, 2)
    outputs = finish(*children, timeout_s=250)
    assert [child.returncode for child in children] == [0, 0], outputs
    assert json.loads(outputs[0][0].splitlines()[-1])["event"] == "done"
    assert not outputs[1][0]
    assert job_here(alone).folder == alone
    weights = [load_base(folder / "weights")[0].state_dict() for folder in (alone, both)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value.numpy(), weights[1][name].numpy(), atol=2e-3, err_msg=name)


def test_killed_process_ends_run_and_training_resumes(tmp_path: Path, small_base: Path) -> None:
    folder = job(tmp_path / "job", small_base, max_epochs=40, checkpoint_every_s=0.1)
    leader, other = start(folder, 2)
    assert leader.stdout is not None
    for line in leader.stdout:
        if json.loads(line)["event"] == "progress":
            break
    other.kill()
    (out, err), _ = finish(leader, other, timeout_s=250)
    assert leader.returncode == 1
    assert "another process" in json.loads(out.splitlines()[-1])["sentence"]
    assert "Traceback" not in err
    assert not (folder / "package").exists()
    children = start(folder, 2)
    outputs = finish(*children, timeout_s=250)
    assert [child.returncode for child in children] == [0, 0], outputs
    assert json.loads(outputs[0][0].splitlines()[-1])["resumed"]
