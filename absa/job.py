"""One training job as a process: `python -m absa.job FOLDER` trains until the deadline and leaves a package.

FOLDER holds job.json and {train,validation}.jsonl: rows of text, aspect and label, oldest first; instead of train.jsonl
job.json may name a folder of token shards. checkpoints/, weights/ and package/ come beside them. One line of JSON a
second on standard output says how it goes. Start it again after any death and it goes on from its last checkpoint with
the time that is left.

Exit codes: 0 a package is there, 1 it cannot be had (the last line says why), 3 the deadline was missed, 143 SIGTERM
came and a checkpoint was kept. Several processes: `torchrun --nproc-per-node N -m absa.job FOLDER`.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from absa.errors import DeadlineMissedError, EvergreenError, InvalidDataError

EXIT_FAILED: Final = 1
EXIT_DEADLINE_MISSED: Final = 3
EXIT_TERMINATED: Final = 143

JOB_FILE: Final = "job.json"
PACKAGE_FOLDER: Final = "package"
WEIGHTS_FOLDER: Final = "weights"
CHECKPOINTS_FOLDER: Final = "checkpoints"
_DONE_FILE: Final = "done.json"
_LEAST_RESERVE_S: Final = 1.0
_LEAST_TRAINING_S: Final = 3.0
_BORROWED: Final = 0.25  # of the reserve, for a training that has neither time nor a checkpoint
_CHECKING_SHARE: Final = 0.12  # of the reserve goes into calibration and parity at most
_VALIDATION_ROWS: Final = 2_000  # enough to calibrate on, and read in no time


@dataclass(frozen=True, kw_only=True)
class Job:
    """What job.json says.

    Attributes:
        settings: of the training, as JSON.
        ends_at: wall-clock deadline of the whole run, seconds since the epoch.
        reserve_s: what the phases after the training need before it, this process's packaging among them.
        snapshot: digest of the data.
        tokens: folder of the train side's token shards, some of which may still be made; None: train.jsonl.
        checkpoints: folder that checkpoints are kept in; None: the job's own.
        since: of token shards, rows observed later are recent (seconds since the epoch).
        replay: established rows for every recent one at most; None: all.
    """

    settings: dict[str, Any]
    ends_at: float
    reserve_s: float = 10.0
    snapshot: str | None = None
    tokens: str | None = None
    checkpoints: str | None = None
    since: float | None = None
    replay: float | None = None

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Read job.json.

        Raises:
            InvalidDataError: it is missing or not of that form.
        """
        path = folder / JOB_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                settings=dict(values.get("settings") or {}),
                ends_at=float(values["ends_at"]),
                reserve_s=max(_LEAST_RESERVE_S, float(values.get("reserve_s", cls.reserve_s))),
                **{name: values.get(name) for name in ("snapshot", "tokens", "checkpoints", "since", "replay")},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidDataError(f"{path} cannot be used: {type(error).__name__} {error}") from error


def say(event: str, **fields: Any) -> None:
    """Print one line of JSON and see it off."""
    if os.environ.get("RANK", "0") != "0":
        return  # one process of several speaks
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the job in the folder that is named; gives the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads train at a fifth beside a busy server
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m absa.job FOLDER\n")
        return EXIT_FAILED
    folder = Path(arguments[0])
    try:
        job = Job.read(folder)
        _guard(job.ends_at)
        return run(job, folder)
    except DeadlineMissedError as error:
        say("deadline_missed", sentence=str(error))
        return EXIT_DEADLINE_MISSED
    except EvergreenError as error:
        say("failed", sentence=str(error))
        return EXIT_FAILED


def run(job: Job, folder: Path) -> int:  # noqa: PLR0915  one story from rows to package
    """Train and package; gives the exit code.

    Raises:
        DeadlineMissedError: too little time is left.
        EvergreenError: settings, data or base model cannot be used.
    """
    done = folder / _DONE_FILE
    if done.is_file() and (folder / PACKAGE_FOLDER).is_dir():
        say("done", **json.loads(done.read_text(encoding="utf-8")))
        return 0
    if time.time() >= job.ends_at:
        raise DeadlineMissedError("the budget was over before the training began; give the run more time")
    stopping = _on_sigterm()
    say("phase", name="load")
    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
    from absa.packaging.build import build_package
    from absa.training.checkpoints import Checkpoints
    from absa.training.choice import ChampionLoss
    from absa.training.compose import Composer
    from absa.training.corpus import LineFile, open_corpus
    from absa.training.deadline import Deadline
    from absa.training.device import pick_device
    from absa.training.ranks import Ranks
    from absa.training.settings import TrainingSettings
    from absa.training.shards import open_shards
    from absa.training.tokens import tokenize
    from absa.training.trainer import InterruptedTrainingError, Trainer

    ranks = Ranks.from_environment()
    settings = TrainingSettings.from_json(job.settings)
    device = pick_device(settings.device, ranks.local_rank)
    base = find_base(settings.warm_start or settings.base_model)
    model, has_head = load_base(
        base, layers=settings.layers, hidden=settings.hidden, dropout=settings.dropout, seed=settings.seed
    )
    say("phase", name="tokenize")
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, settings.max_tokens)
    deadline = Deadline(job.ends_at).earlier(job.reserve_s)
    if job.tokens is None:
        rows = open_corpus(folder / "train.jsonl", tokenizer)
    else:
        rows = open_shards(Path(job.tokens), base / TOKENIZER, settings.max_tokens, left_s=deadline.remaining_s)
    validation = LineFile(folder / "validation.jsonl").sample(_VALIDATION_ROWS, settings.seed)
    validation_rows = tokenize(validation, tokenizer)
    kept = Path(job.checkpoints) if job.checkpoints else folder / CHECKPOINTS_FOLDER
    trainer = Trainer(
        model,
        rows,
        validation_rows,
        settings,
        deadline,
        new_head=not has_head,
        compose=Composer.of(tokenizer, settings),
        checkpoints=Checkpoints(kept),
        watch=lambda progress: say("progress", **progress.to_json()),
        stop=stopping.is_set,
        ranks=ranks,
        since=job.since,
        replay=job.replay,
        losses=ChampionLoss(model, device) if settings.loss_signal and has_head else None,
    )
    if not trainer.resumed and deadline.remaining_s() < _LEAST_TRAINING_S:
        # killed before its first checkpoint, say: a version that learned little is better than none
        trainer.deadline = Deadline(job.ends_at).earlier((1.0 - _BORROWED) * job.reserve_s)
    say("phase", name="train")
    try:
        result = trainer.run()
    except InterruptedTrainingError:
        say("terminated", sentence="stopped by SIGTERM; a checkpoint was kept, start it again to go on")
        return EXIT_TERMINATED
    if not ranks.leads:
        return 0
    if result.ended_early is not None:
        say("ended_early", sentence=f"{result.ended_early}: the model so far is packaged", steps=result.steps)
    tokenizer_json = (base / TOKENIZER).read_text(encoding="utf-8")
    averaged = trainer.averaged()
    save_weights(averaged, tokenizer_json, folder / WEIGHTS_FOLDER)
    report = build_package(
        averaged,
        tokenizer_json,
        settings,
        validation,
        folder / PACKAGE_FOLDER,
        snapshot=job.snapshot,
        training=asdict(result),
        checking_s=_CHECKING_SHARE * job.reserve_s,
        phase=lambda name: say("phase", name=name),
    )
    if stopping.is_set():
        return EXIT_TERMINATED
    facts = asdict(result) | {
        "parity": asdict(report.parity),
        "calibration": report.calibration.to_json(),
        "digest": report.digest,
        "size_mb": report.size_mb,
        "spare_s": round(job.ends_at - time.time(), 2),
    }
    _finish(done, facts)
    shutil.rmtree(kept, ignore_errors=True)
    return 0


def _finish(done: Path, facts: dict[str, Any]) -> None:
    temporary = done.with_suffix(".part")
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(done)
    say("done", **facts)


def _on_sigterm() -> threading.Event:
    """An event that SIGTERM sets; the loop looks at it after every step."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    return stopping


def _guard(ends_at: float) -> None:
    """End this process at the deadline, whatever native code it is in: nothing may be left behind half-done."""

    def end() -> None:
        say("deadline_missed", sentence="the budget ended before the package was ready; give the run more time")
        os._exit(EXIT_DEADLINE_MISSED)

    timer = threading.Timer(max(0.0, ends_at - time.time()), end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # torch's threads take half a second to leave otherwise
