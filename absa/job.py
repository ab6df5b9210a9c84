"""One training job as a process: `python -m absa.job FOLDER` trains until the deadline and writes a package.

FOLDER holds job.json, validation.jsonl (rows of text, aspect or topic, and label) and, unless job.json names another
folder, the token shards of the train side in tokens/. The job adds checkpoints/, built/, weights/ and package/. It
prints one JSON event per line on standard output, at least every two seconds while it trains. A job that was killed
can be started again: it resumes from its last checkpoint and has the rest of the time.

The job is anytime: it builds a first package early and replaces it later. So the newest complete package is the result
even if training or a later package fails. The caller may update FOLDER/after.json while the job runs: `{"after_s": X}`
is the time in seconds that the caller needs after the job.

Exit codes: 0 package/ is complete, 1 failed (the last event gives the reason), 3 deadline missed, 143 SIGTERM received
and a checkpoint kept. Several processes: `torchrun --nproc-per-node N -m absa.job FOLDER`.
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
from typing import TYPE_CHECKING, Any, Final

from absa.errors import DeadlineMissedError, EvergreenError, InvalidDataError
from absa.packaging.numbered import NumberedPackages
from absa.task import ABSA, TaskSpec
from absa.training.anytime import PackagePlan

if TYPE_CHECKING:
    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.head import Classifier
    from absa.training.rows.distill import TaughtCorpus
    from absa.training.rows.tokens import LabelledPair
    from absa.training.trainer import Trainer
    from absa.training.training_settings import TrainingSettings

EXIT_FAILED: Final = 1
EXIT_DEADLINE_MISSED: Final = 3
NO_WINDOW: Final = "none"  # argument of a training that was not requested by the verdict of a window
EXIT_TERMINATED: Final = 143

JOB_FILE: Final = "job.json"
AFTER_FILE: Final = "after.json"
CHECKPOINTS_FOLDER: Final = "checkpoints"
JOB_TOKENS: Final = "tokens"
VALIDATION_FILE: Final = "validation.jsonl"
_OPTIONAL: Final = ("snapshot", "run", "tokens", "checkpoints", "since", "replay", "lesson")
_LEAST_RESERVE_S: Final = 1.0
_AFTER_EVERY_S: Final = 0.5  # between two reads of after.json


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Content of job.json.

    Attributes:
        settings: settings of the training, as JSON.
        ends_at: wall-clock deadline of the whole run, seconds since the epoch.
        overrun_s: seconds after the deadline in which a first package may still be completed.
        reserve_s: estimate of the seconds that the phases after training need, packaging included; used until the
            time of a first package is measured.
        after_s: part of `reserve_s` that the caller needs after this process.
        snapshot: digest of the data.
        run: id of the tracking run. The lake keeps the weights in the folder of the run.
        tokens: folder of the train side's token shards, some of which may not be made yet; None: FOLDER/tokens.
        checkpoints: folder of the checkpoints; None: FOLDER/checkpoints.
        since: rows observed later are recent (seconds since the epoch); None: not known.
        replay: largest number of established rows per recent row; None: all.
        lesson: folder with the answers of teachers, and with the pairs without labels; None: no teachers.
        teacher_weight: share of the teachers in a labelled row's target, 0 to 1.
        task: task of the rows; the default task if job.json names none.
    """

    settings: dict[str, Any]
    ends_at: float
    task: TaskSpec = ABSA
    overrun_s: float = 0.0
    reserve_s: float = 10.0
    after_s: float = 0.0
    snapshot: str | None = None
    run: str | None = None
    tokens: str | None = None
    checkpoints: str | None = None
    since: float | None = None
    replay: float | None = None
    lesson: str | None = None
    teacher_weight: float = 0.5

    @classmethod
    def read(cls, folder: Path) -> "TrainingJob":
        """Read job.json.

        Raises:
            InvalidDataError: the file is missing or has another form.
        """
        path = folder / JOB_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                settings=dict(values.get("settings") or {}),
                ends_at=float(values["ends_at"]),
                task=TaskSpec.from_json(values.get("task")),
                overrun_s=float(values.get("overrun_s", cls.overrun_s)),
                reserve_s=max(_LEAST_RESERVE_S, float(values.get("reserve_s", cls.reserve_s))),
                after_s=float(values.get("after_s", cls.after_s)),
                teacher_weight=float(values.get("teacher_weight", cls.teacher_weight)),
                **{name: values.get(name) for name in _OPTIONAL},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidDataError(f"{path} cannot be used: {type(error).__name__} {error}") from error


def emit(event: str, **fields: Any) -> None:
    """Print an event as one line of JSON and flush it."""
    if not _leads():
        return  # only the first of several processes reports
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def _leads() -> bool:
    """Return True in the first of several processes, and in a single process."""
    return os.environ.get("RANK", "0") == "0"


def main(arguments: list[str] | None = None) -> int:
    """Run the job in the folder that the argument names; return the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads train at a fifth of the speed
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m absa.job FOLDER\n")
        return EXIT_FAILED
    folder = Path(arguments[0])
    try:
        job = TrainingJob.read(folder)
        _guard(job, folder)
        return train_and_package(job, folder)
    except EvergreenError as error:
        missed = isinstance(error, DeadlineMissedError)
        if _leads() and NumberedPackages(folder).newest() is not None:
            emit("ended_early", sentence=f"{error}: the newest complete package is used")
            _finish(NumberedPackages(folder))
            return 0
        emit("deadline_missed" if missed else "failed", sentence=str(error))
        return EXIT_DEADLINE_MISSED if missed else EXIT_FAILED


def train_and_package(job: TrainingJob, folder: Path) -> int:
    """Train a model and package it; return the exit code.

    Raises:
        DeadlineMissedError: too little time is left for a step and a package.
        EvergreenError: settings, data or base model cannot be used.
    """
    packages = NumberedPackages(folder)
    if (done := packages.done()) is not None:
        emit("done", **done)
        return 0
    if time.time() >= job.ends_at + job.overrun_s:
        raise DeadlineMissedError("the budget ended before the training began")
    stopping = _on_sigterm()
    emit("phase", name="load")
    from absa.inference.tokenization import PairTokenizer
    from absa.modeling.bases import TOKENIZER, load_base
    from absa.training.checkpoints import Checkpoints
    from absa.training.rows.compose import Composer
    from absa.training.rows.shards import open_shards
    from absa.training.rows.tokens import read_pairs, tokenize
    from absa.training.step.ranks import Ranks
    from absa.training.trainer import InterruptedTrainingError, Trainer
    from absa.training.training_settings import TrainingSettings

    ranks = Ranks.from_environment()
    settings = TrainingSettings.from_json(job.settings)
    base = _base_of(settings)
    model, has_head = load_base(
        base,
        task=job.task,
        layers=settings.layers,
        hidden=settings.hidden,
        dropout=settings.dropout,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )
    emit("phase", name="tokenize")
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, settings.max_tokens, task=job.task)
    plan = PackagePlan(
        run_ends_at=job.ends_at,
        packaging_s=max(0.0, job.reserve_s - job.after_s),
        after_s=job.after_s,
        overrun_s=job.overrun_s,
    )
    if (earlier := packages.newest()) is not None:  # built by an earlier process that was killed
        facts = earlier.facts()
        plan.built(float(facts["package_s"]), float(facts["train_s"]), quick=bool(facts["quick"]))
    tokens = Path(job.tokens) if job.tokens else folder / JOB_TOKENS
    rows = open_shards(tokens, base / TOKENIZER, settings.max_tokens, left_s=plan.rows_wait_s)
    if job.lesson is not None:
        rows = _taught(Path(job.lesson), job, tokens, tokenizer, plan)
    validation = read_pairs(folder / VALIDATION_FILE, job.task)
    kept = Path(job.checkpoints) if job.checkpoints else folder / CHECKPOINTS_FOLDER
    trainer = Trainer(
        model,
        rows,
        tokenize(validation, tokenizer),
        settings,
        plan,
        new_head=not has_head,
        compose=Composer.of(tokenizer, settings, job.task),
        checkpoints=Checkpoints(kept),
        watch=lambda progress: emit("progress", **progress.to_json()),
        stop=stopping.is_set,
        ranks=ranks,
        since=job.since,
        replay=job.replay,
    )
    builder = _Builder(job, packages, trainer, plan, validation, (base / TOKENIZER).read_text(encoding="utf-8"))
    trainer.after_step = builder.after_step
    emit("phase", name="train")
    plan.begin()
    try:
        result = trainer.run()
    except InterruptedTrainingError:
        emit("terminated", sentence="stopped by SIGTERM; a checkpoint was kept, start it again to go on")
        return EXIT_TERMINATED
    if not ranks.leads:
        return 0
    if result.ended_early is not None:
        emit("ended_early", sentence=f"{result.ended_early}: the model so far is packaged", steps=result.steps)
    if not plan.has_package or plan.last_fits():
        builder.build(trainer.averaged(), asdict(result), checking_s=plan.checking_s, last=True)
    _finish(packages)
    shutil.rmtree(kept, ignore_errors=True)
    return 0


def _taught(
    lesson: Path, job: TrainingJob, tokens: Path, tokenizer: "PairTokenizer", plan: PackagePlan
) -> "TaughtCorpus":
    """Return the rows of the train side, then the pairs without labels, with the teachers' answers as targets."""
    from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, Answers, TaughtCorpus
    from absa.training.rows.tokens import read_pairs, tokenize

    file = lesson / PAIRS_FILE
    pairs = tokenize(read_pairs(file, job.task), tokenizer) if file.stat().st_size else None
    answers = Answers.read(lesson / ANSWERS_FILE)
    return TaughtCorpus(tokens, pairs, answers, job.teacher_weight, left_s=plan.rows_wait_s)


def _base_of(settings: "TrainingSettings") -> Path:
    from absa.modeling.folders import WEIGHTS, find_base
    from absa.training.memory import check_memory

    base = find_base(settings.warm_start or settings.base_model)
    check_memory(base / WEIGHTS)
    return base


class _Builder:
    """Builder of one training's packages, at the times of its plan."""

    def __init__(
        self,
        job: TrainingJob,
        packages: NumberedPackages,
        trainer: "Trainer",
        plan: PackagePlan,
        validation: "list[LabelledPair]",
        tokenizer_json: str,
    ) -> None:
        self._job, self._packages, self._trainer, self._plan = job, packages, trainer, plan
        self._validation, self._tokenizer_json = validation, tokenizer_json
        self._after = packages.folder / AFTER_FILE
        self._looked_at = 0.0

    def after_step(self) -> None:
        """Read the caller's `after_s`, and build a package if one is due."""
        now = time.time()
        if now - self._looked_at >= _AFTER_EVERY_S:
            self._looked_at = now
            self._plan.after_s = _after_s(self._after, self._plan.after_s)
        trained_s = self._trainer.train_s
        if self._plan.is_due(trained_s):
            started, quick, valid = time.perf_counter(), not self._plan.has_package, True
            emit("phase", name="package")
            try:
                self.build(self._trainer.averaged_copy(), asdict(self._trainer.result()), checking_s=0.0, quick=quick)
            except (EvergreenError, OSError) as error:  # such as int8 that differs too much: the next may pass
                valid = False
                emit("note", sentence=f"the package of step {self._trainer.step} cannot be used: {error}")
            self._plan.built(time.perf_counter() - started, trained_s, quick=quick, valid=valid)

    def build(
        self,
        model: "Classifier",
        training: dict[str, Any],
        *,
        checking_s: float,
        quick: bool = False,
        last: bool = False,
    ) -> None:
        """Build the next package from a model, and report it."""
        from absa.modeling.bases import save_weights
        from absa.packaging.build import FULL, QUICK, build_package
        from absa.packaging.numbered import PACKAGE_FOLDER, WEIGHTS_FOLDER

        started = time.perf_counter()
        with self._packages.next() as (folder, facts):
            save_weights(model, self._tokenizer_json, folder / WEIGHTS_FOLDER)
            report = build_package(
                model,
                self._tokenizer_json,
                self._trainer.settings,
                self._validation,
                folder / PACKAGE_FOLDER,
                snapshot=self._job.snapshot,
                run=self._job.run,
                training=training,
                checking_s=checking_s,
                effort=QUICK if quick else FULL,
                phase=(lambda name: emit("phase", name=name)) if last else (lambda _: None),
            )
            facts.update(training)
            facts.update(
                {
                    "parity": asdict(report.parity),
                    "calibration": report.calibration.to_json(),
                    "digest": report.digest,
                    "size_mb": report.size_mb,
                    "quick": quick,
                    "package_s": round(time.perf_counter() - started, 2),
                    "spare_s": round(self._job.ends_at - time.time(), 2),
                }
            )
        newest = self._packages.newest()
        number = newest.number if newest else 0
        emit("package", number=number, package_s=facts["package_s"], steps=training["steps"], quick=quick, last=last)


def _after_s(file: Path, default: float) -> float:
    """Return the seconds that the caller needs after this process; the default until the caller has written them."""
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["after_s"])
    except FileNotFoundError:
        return default


_finishing = threading.Lock()


def _finish(packages: NumberedPackages) -> bool:
    """Make the newest package the job's result and report it. Return False if there is no package."""
    with _finishing:
        facts = packages.settle()
        if facts is not None:
            emit("done", **facts)
        return facts is not None


def _on_sigterm() -> threading.Event:
    """Return an event that SIGTERM sets; the loop checks it after every step."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    return stopping


def _guard(job: TrainingJob, folder: Path) -> None:
    """End this process at the last possible moment, even in native code; the newest package becomes the result."""

    def end() -> None:
        if not _leads():
            os._exit(0)  # only the first process makes the result
        code = EXIT_DEADLINE_MISSED
        try:
            if _finish(NumberedPackages(folder)):
                code = 0
            else:
                emit("deadline_missed", sentence="the budget ended before a first package was complete")
        finally:  # also if the disk is full or the reader of the events has ended
            os._exit(code)

    timer = threading.Timer(max(0.0, job.ends_at + job.overrun_s - time.time()), end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # an ordinary exit waits half a second for torch's threads
