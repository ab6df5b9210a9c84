"""Model servers beside the router: `python -m benchmarks serving_peers`; writes results/serving_peers.json.

Every server answers single-item requests with the same int8 package on the same cores, one after the other, the router
first and last. LitServe, BentoML and Ray Serve live in an environment of their own, made on the first run.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.figures import Row, write_result
from benchmarks.router.load import ClosedLoop, saturate, write_bodies
from benchmarks.router.serving import MODELS, PORT, ROOT, Run, add_options, build, read_rows, saturated

RESULT = ROOT / "benchmarks" / "results" / "serving_peers.json"
HERE = Path(__file__).parent / "peers"
URL = f"http://127.0.0.1:{PORT}"
MLFLOW_BODY = '{{"dataframe_records": [{}]}}'


def ensure_environment(folder: Path) -> Path:
    """The peers' own environment, made where it is missing or older than its requirements.

    Returns:
        Its bin folder.
    """
    wanted, done = HERE / "requirements.txt", folder / ".installed"
    if not done.exists() or done.stat().st_mtime < wanted.stat().st_mtime:
        print(f"making the peers' environment in {folder} (once; minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", "-r", str(wanted)], check=True)
        done.touch()
    return folder / "bin"


def installed(python: Path, package: str) -> str:
    """The version of a package in another environment."""
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def mlflow_model(package: Path, folder: Path) -> Path:
    """The package as an MLflow model on disk."""
    import mlflow

    from absa.adapters.mlflow_client import log_package

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("peers", artifact_location=str(folder / "artifacts")))
    with mlflow.start_run():
        uri = log_package(package).model_uri
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model")))


@contextmanager
def served(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, path: str, body: str
) -> Iterator[None]:
    """A server until it answers, and everything that it started ended after."""
    with log.open("wb") as file:
        child = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=file, stderr=file)
        try:
            _wait_for_answer(child, log, path, body)
            yield
        finally:
            if child.poll() is None:
                family = [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]
                child.send_signal(signal.SIGINT)
                for each in psutil.wait_procs(family, timeout=20)[1]:
                    each.kill()
            child.wait()


def _wait_for_answer(child: subprocess.Popen[bytes], log: Path, path: str, body: str, seconds: float = 90.0) -> None:
    import httpx

    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise RuntimeError(f"the peer ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            headers = {"Content-Type": "application/json"}
            if httpx.post(f"{URL}{path}", content=body, headers=headers).status_code == 200:
                time.sleep(2.0)  # the other workers
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the peer did not become ready: {log.read_text(errors='replace')[-2000:]}")


def main() -> None:
    """Run every server and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--environment", type=Path, default=ROOT / ".evergreen" / "peers")
    parser.add_argument("--only", nargs="*", default=["litserve", "bentoml", "ray", "mlflow"])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = read_rows(options.rows)
    model = MODELS[0]
    package = build(model, options.packages / "peers", rows).resolve()
    bin_folder = ensure_environment(options.environment.resolve())
    run = Run(rows=rows, workers=options.workers, runs=options.runs, seconds=options.seconds)
    environment = os.environ | {
        "PACKAGE": str(package), "WORKERS": str(options.workers), "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    case, found = f"{model.name}, saturation", []

    def add(loops: Sequence[ClosedLoop], peer: str | None) -> None:
        rates = sorted(loop.rate for loop in loops)
        failed = sum(loop.failed for loop in loops)
        row = Row(
            case=case, metric="requests_per_s", value=round(statistics.median(rates), 1), low=round(rates[0], 1),
            high=round(rates[-1], 1), runs=len(rates), unit="1/s", peer=peer,
        )  # fmt: skip
        found.append(row)
        print(f"{peer or 'this router':50} {row.value:8.1f}/s ({row.low} to {row.high}), {failed} failed", flush=True)

    with tempfile.TemporaryDirectory(prefix="evergreen-peers-") as name:
        folder = Path(name)
        plain = folder / "plain.jsonl"
        write_bodies(plain, rows)
        framed = folder / "framed.jsonl"
        framed.write_text(
            "\n".join(MLFLOW_BODY.format(line) for line in plain.read_text(encoding="utf-8").splitlines()),
            encoding="utf-8",
        )
        port, workers = str(PORT), str(options.workers)
        python = bin_folder / "python"
        servers = {
            "litserve": ([str(python), "-m", "benchmarks.router.peers.litserve_server", port, workers], plain),
            "bentoml": (
                [str(bin_folder / "bentoml"), "serve", "benchmarks.router.peers.bentoml_server:Peer", "--port", port,
                 "--host", "127.0.0.1"],
                plain,
            ),
            "ray": ([str(python), "-m", "benchmarks.router.peers.ray_server", port, workers], plain),
            "mlflow": (
                [sys.executable, "-m", "mlflow", "models", "serve", "-m", "MODEL", "--env-manager", "local",
                 "--host", "127.0.0.1", "--port", port, "--workers", workers],
                framed,
            ),
        }  # fmt: skip
        versions = {name: installed(python, name) for name in ("litserve", "bentoml", "ray")}
        versions |= {name: version(name) for name in ("mlflow", "onnxruntime", "uvicorn")}
        add(saturated(run, package, rows, EVERGREEN_QUEUE_MS="5000").loops, None)
        for peer in options.only:
            command, bodies = servers[peer]
            if peer == "mlflow":
                at = str(mlflow_model(package, folder))
                command = [at if word == "MODEL" else word for word in command]
            path = "/v1/predict" if bodies == plain else "/invocations"
            first = bodies.read_text(encoding="utf-8").splitlines()[0]
            with served(command, environment, folder / f"{peer}.log", path=path, body=first):
                ask = {"connections": options.connections, "path": path}
                saturate(URL, bodies, seconds=min(3.0, options.seconds), **ask)
                loops = [saturate(URL, bodies, seconds=options.seconds, **ask) for _ in range(options.runs)]
            add(loops, f"{peer} {versions[peer]}, {workers} workers")
        add(saturated(run, package, rows, EVERGREEN_QUEUE_MS="5000").loops, None)
    write_result(
        options.out, name="serving_peers", command="make benchmark-serving_peers", seed=0, rows=found, versions=versions
    )


if __name__ == "__main__":
    main()
