"""Training step: makes a candidate from snapshot and champion's weights, in a process that keeps the budget."""

import json
import shutil
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from absa.inference.package import ModelPackage
from absa.job import JOB_FILE
from absa.ledger.record import LedgerRecord
from absa.modeling.folders import TOKENIZER, find_base, pin_base
from absa.packaging.numbered import WEIGHTS_FOLDER, NumberedPackages
from absa.policies import RecipeName, TrainingRecipe
from absa.records.layout import weights_folder
from absa.training.anytime import QUICK_FACTOR
from absa.training.recipes import RECIPES, Recipe
from flows.platform.ports import TrackedRun
from flows.platform.services import Services
from flows.training.job_process import JobResult, OnEvent, RunJob, run_job, write_after
from flows.training.judging import Judging
from flows.training.kept_checkpoints import KeptCheckpoints
from flows.training.reserve import Reserve, RunTime
from flows.training.teaching.lesson import Lesson
from flows.training.token_process import shards_of
from flows.training.training_snapshot import champion_package

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest

_VALIDATION_ROWS: Final = 2_000
MAX_TOKENS: Final = 128


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights that a training starts from.

    Attributes:
        folder: folder with the fp32 weights.
        base: name of the base model from which the weights were trained.
        layers: number of layers of the weights.
    """

    folder: Path
    base: str
    layers: int


def train_candidate(
    services: Services,
    run: TrackedRun,
    manifest: "Manifest",
    head: LedgerRecord | None,
    *,
    run_time: RunTime,
    reserve: Reserve,
    judging: Judging,
    base: str | None = None,
    recipe: RecipeName | None = None,
    layers: int | None = None,
    larger: Start | None = None,
    lesson: Lesson | None = None,
    on_event: OnEvent,
    job: RunJob = run_job,
) -> JobResult:
    """Train and package in a child process that ends before the run's deadline.

    Training starts from the champion's weights, unless a base model is named. A named recipe takes precedence over the
    recipe of the settings. For a size of a ladder, `layers` is its number of layers and `larger` has the weights of a
    larger size of the run. The first package of the job is judged beside the training, to measure the time of judging;
    the job gets the new reserve.

    Raises:
        DeadlineMissedError: the time ended before a first package was complete.
        PermanentError: the job failed; the message names its log.
    """
    from absa.data.snapshot import sample_side

    policy, since = services.settings.training, judging.since
    folder = services.home.folder("jobs", run.run_id)
    rows = sample_side(services.lake, manifest.digest, "validation", _VALIDATION_ROWS)
    rows.select("text", "aspect", "label", "segment").write_ndjson(folder / "validation.jsonl")
    named = recipe or policy.recipe
    champion = champion_weights(services, head) if base is None else None
    chosen = _training_settings(policy, RECIPES[named], base, layers, start_of(layers, champion, larger))
    what = {"snapshot": manifest.digest, **chosen} | ({"lesson": lesson.facts["lesson"]} if lesson else {})
    kept = KeptCheckpoints(services.lake, run.run_id, what, folder / "checkpoints")
    adopted = kept.adopt()
    run.params(
        {
            **chosen,
            "recipe": named,
            **(lesson.facts if lesson else {}),
            "train_rows": manifest.side_rows("train"),
            "recent_since": since.isoformat() if since else None,
            "replay": policy.replay if since else None,
            "resumed_from_run": adopted,
            "budget_ends_at": datetime.fromtimestamp(run_time.ends_at, UTC).isoformat(),
        }
    )
    tokenizer = find_base(str(chosen.get("warm_start", chosen["base_model"]))) / TOKENIZER
    began = run_time.now()
    with (
        shards_of(
            services.lake,
            manifest.digest,
            tokenizer,
            MAX_TOKENS,
            cache=services.home.root,
            environment=services.environment,
        ) as shards,
        kept.copied(),
    ):
        after = _After(reserve, judging, folder, run_time)
        description = {
            "settings": chosen,
            "ends_at": run_time.ends_at,
            "overrun_s": run_time.overrun_s,
            "reserve_s": reserve.packaging_s() + after.seconds(),
            "after_s": after.seconds(),
            "snapshot": manifest.digest,
            "task": manifest.task.to_json(),
            "run": run.run_id,
            "tokens": str(shards.folder),
            "checkpoints": str(kept.folder),
            "since": since.timestamp() if since else None,
            "replay": policy.replay,
            "lesson": None if lesson is None else str(lesson.write(folder)),
            "teacher_weight": RECIPES[named].teacher_weight,
        }
        (folder / JOB_FILE).write_text(json.dumps(description, indent=1))
        started = False

        def relay(event: Mapping[str, Any]) -> None:
            nonlocal started
            phase = event.get("name") if event.get("event") == "phase" else None
            if phase == "export":
                shards.stop()  # the training has ended: packaging and judging get the processor
            if phase == "train" and not started:
                started = True
                reserve.record("start", run_time.now() - began)
            if event.get("event") == "package":
                after.package_built(event)
            run.event(event)
            on_event(event)

        try:
            result = job(
                folder,
                ends_at=run_time.ends_at,
                overrun_s=run_time.overrun_s,
                least_after_s=reserve.least_after_s,
                environment=services.environment,
                on_event=relay,
            )
        finally:
            problem = after.wait()
            NumberedPackages(folder).clear()
    kept.clear()
    facts = {
        **{name: value for name, value in result.done.items() if isinstance(value, int | float)},
        **{f"choice_{name}": value for name, value in result.done.get("choice", {}).items()},
        "reserve_s": round(reserve.packaging_s() + after.seconds(), 1),
    }
    services.steps("log-facts", lambda: run.params(facts), again=True)  # a short outage must not cost the training
    if problem is not None:
        on_event({"event": "note", "sentence": f"judging could not be measured beside the training: {problem}"})
    return result


def _training_settings(
    policy: TrainingRecipe, recipe: Recipe, base: str | None, layers: int | None, start: Start | None
) -> dict[str, Any]:
    """Return the settings of the job, which starts from weights if there are any, else from a base model.

    A student that lost layers learns with all its layers, in as many passes as a first training.
    """
    whole = start is not None and layers in (None, start.layers)
    wanted = {
        "base_model": pin_base(base or policy.base_model) if start is None else start.base,
        "layers": layers,
        "hidden": policy.hidden,
        "learning_rate": policy.learning_rate,
        "batch_tokens": policy.batch_tokens,
        **recipe.settings(warm=whole),
        "warm_start": None if start is None else str(start.folder),
        "train_layers": policy.warm_layers if whole else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def start_of(layers: int | None, champion: Start | None, larger: Start | None) -> Start | None:
    """Return the weights from which a student with `layers` layers starts; None: the base model's weights. Pure.

    The weights are those of a champion of the same size, else of the larger student of the same run, else of a champion
    that is not smaller.
    """
    if champion is not None and layers in (None, champion.layers):
        return champion
    if larger is not None:
        return larger
    return champion if champion is not None and layers is not None and champion.layers > layers else None


class _After:
    """Time that the run needs after the job. Every change is passed to the job.

    Args:
        reserve: receives measurements.
        judging: judges the first package.
        folder: folder of the job.
        run_time: has the end of the run.
    """

    def __init__(self, reserve: Reserve, judging: Judging, folder: Path, run_time: RunTime) -> None:
        self._reserve, self._judging, self._folder, self._run_time = reserve, judging, folder, run_time
        self._lock = threading.Lock()
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="measure-judging")
        self._prepared = self._beside.submit(judging.prepare)
        self._measured: Future[None] | None = None

    def seconds(self) -> float:
        """Return the seconds for judging the planned number of rows and for registering."""
        return self._reserve.after_s(rows=self._judging.planned_rows, cases=self._judging.planned_cases)

    def package_built(self, event: Mapping[str, Any]) -> None:
        """Record the time of packaging, and judge the first package beside the training if there is time for it."""
        factor = QUICK_FACTOR if event.get("quick") else 1.0
        self._reserve.record("package", factor * float(event["package_s"]))
        self._tell()
        newest = NumberedPackages(self._folder).newest()
        if self._measured is not None or newest is None or event.get("last") or not self._has_time():
            return
        scratch = tempfile.TemporaryDirectory(prefix="evergreen-first-")
        package = Path(scratch.name) / "package"
        shutil.copytree(newest.package, package)  # the job replaces its package when the next one is complete
        parity = newest.facts()["parity"]

        def measure() -> None:
            with scratch:
                self._judging.measure(package, parity)

        self._measured = self._beside.submit(measure)
        self._measured.add_done_callback(lambda _: self._tell())

    def _has_time(self) -> bool:
        """Return True if there is time to judge twice: beside the training and after it."""
        ends_at = self._run_time.ends_at + self._run_time.overrun_s
        return ends_at - self._run_time.now() > 2.0 * self._reserve.least_after_s()

    def wait(self) -> BaseException | None:
        """Wait until no thread reads the job's packages; return the error if judging could not be measured."""
        self._judging.stop()
        self._beside.shutdown()
        return self._prepared.exception() or (None if self._measured is None else self._measured.exception())

    def _tell(self) -> None:
        with self._lock:
            write_after(self._folder, self.seconds())


def champion_weights(services: Services, head: LedgerRecord | None) -> Start | None:
    """Return the champion's fp32 weights on local disk; None if they were never kept."""
    package = champion_package(services, head)
    if package is None or head is None:
        return None
    folder = kept_weights(services, str(head.state.champion), package)
    config = package.config
    return None if folder is None else Start(folder=folder, base=config.base_model, layers=config.layers)


def kept_weights(services: Services, version: str, package: ModelPackage) -> Path | None:
    """Return a version's fp32 weights on local disk; None if they were never kept."""
    run_id = package.config.run or services.registry.tags(version).get("run")  # tag of earlier releases
    if run_id is None:
        return None
    folder = services.home.folder("jobs", run_id) / WEIGHTS_FOLDER
    prefix = weights_folder(run_id)
    for key in services.lake.list(prefix):
        file = folder / key.removeprefix(prefix)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(services.lake.read(key))
    return folder if (folder / "config.json").is_file() else None
