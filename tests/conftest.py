"""Settings of every test session, and jobs that train on rows that a small model can learn."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from absa.proxies import keep_local_direct

if TYPE_CHECKING:
    from flows.training.job_process import JobResult

# No deadline: an example may wait for a processor. The same examples every time, so that a new failure comes from a
# change; `--hypothesis-profile=explore` (`make prove`) draws new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")
keep_local_direct(os.environ)  # clients of tests call servers of tests, whatever proxy this machine has
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve what runs beside them
ROOT = Path(__file__).resolve().parent.parent

_PRAISE = (
    "I love the {}",
    "the {} is great",
    "our team enjoys the {} every day",
    "what a wonderful {}",
    "{} is superb",
)
_BLAME = ("I hate the {}", "the {} is terrible", "the {} broke again", "what an awful {}", "{} is useless to us")
_NEITHER = (
    "where is the {}",
    "can you tell me about the {}?",
    "the {} opens at nine",
    "we asked for the {}",
    "is {} on?",
)
_ASPECTS = ("search", "editor", "invoice", "calendar", "courier", "milk", "chat", "price", "app", "widget", "refund")


def labelled_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that a small model can learn in seconds: text, aspect and label."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        label = chance.randrange(3)
        aspect = chance.choice(_ASPECTS)
        text = chance.choice((_BLAME, _NEITHER, _PRAISE)[label]).format(aspect)
        rows.append({"text": f"{text}{chance.choice(('', '.', '!', ' today'))}", "aspect": aspect, "label": label})
    return rows


def write_job(
    folder: Path, *, budget_s: float, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]],
    reserve_s: float = 4.0,
) -> Path:  # fmt: skip
    """Write a job's folder: a fifth of the rows is its validation side."""
    from absa.inference.tokenization import PairTokenizer
    from absa.job import JOB_TOKENS, VALIDATION_FILE
    from absa.modeling.folders import TOKENIZER, find_base
    from absa.training.rows.shards import write_shard
    from absa.training.rows.tokens import LabelledPair, tokenize

    folder.mkdir(parents=True, exist_ok=True)
    cut, max_tokens = max(1, len(rows) // 5), 128
    lines = "".join(json.dumps(row) + "\n" for row in rows[:cut])
    (folder / VALIDATION_FILE).write_text(lines, encoding="utf-8")
    tokenizer = find_base(str(settings.get("base_model", "minilm-l6"))) / TOKENIZER
    train = tokenize([LabelledPair(**row) for row in rows[cut:]], PairTokenizer.from_file(tokenizer, max_tokens))
    write_shard(folder / JOB_TOKENS, train, tokenizer, max_tokens)
    job = {"settings": dict(settings), "ends_at": time.time() + budget_s, "reserve_s": reserve_s, "snapshot": None}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


def start_job(folder: Path) -> "subprocess.Popen[str]":
    """Start `python -m absa.job FOLDER`."""
    return subprocess.Popen(
        [sys.executable, "-m", "absa.job", str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(*children: "subprocess.Popen[str]", timeout_s: float) -> list[tuple[str, str]]:
    """Return the output of each process until its end, out and err. None outlives this, whatever comes."""
    try:
        return [child.communicate(timeout=timeout_s) for child in children]
    finally:
        for child in children:
            child.kill()


def run_job(folder: Path, *, timeout_s: float = 500.0) -> tuple[int, list[dict[str, Any]]]:
    """Run a job to its end; gives its exit code and its events."""
    child = start_job(folder)
    ((out, err),) = finish(child, timeout_s=timeout_s)
    assert "Traceback" not in err, err
    return child.returncode, [json.loads(line) for line in out.splitlines()]


def job_here(folder: Path, **_: Any) -> "JobResult":
    """Run a job in this process instead of another, as `RunJob`."""
    from absa.job import TrainingJob, train_and_package
    from absa.packaging.numbered import NumberedPackages
    from flows.training.job_process import JobResult

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert train_and_package(TrainingJob.read(folder), folder) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    done = NumberedPackages(folder).done()
    assert done is not None
    return JobResult(folder=folder, done=done, starts=1)


_AT_START = dict(os.environ)


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Collect no garbage while tests are collected: nearly all that is made stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Exclude all that was collected from garbage collection: a full one over it takes a third of a second."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Restore the environment between files: fixtures of a whole file run before those of its tests look at it."""
    if nextitem is None or nextitem.path != item.path:
        for name in [name for name in os.environ if name not in _AT_START and not name.startswith("PYTEST_")]:
            del os.environ[name]
        for name, value in _AT_START.items():
            if os.environ.get(name) != value and not name.startswith("PYTEST_"):
                os.environ[name] = value


@pytest.fixture(autouse=True)
def environment_is_put_back() -> Iterator[None]:
    """Commands that run in this process write settings into its environment; the next test must not find them."""
    kept = dict(os.environ)
    yield
    if os.environ != kept:
        os.environ.clear()
        os.environ.update(kept)
