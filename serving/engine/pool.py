"""Models of a worker. A new model is loaded and warmed up beside the old one, then one reference is replaced."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from absa.errors import EvergreenError, PermanentError
from absa.inference.certainty import LeastScores, read_least_scores
from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.ledger.routing import CHAMPION, TrafficPlan, single
from absa.records.schema import iso, utc_now
from absa.task import TaskSpec
from serving.replica_state import RouterState

_log = logging.getLogger("evergreen.pool")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """Version that is ready to score. `least_scores` are the limits of certain answers; None: nothing is promised."""

    version: str
    digest: str
    engine: Engine
    loaded_at: str
    least_scores: LeastScores | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InForce:
    """Active plan with a model for each of its versions. Replaced as a whole, never changed.

    `task` is the task of the version with the most labels.
    """

    revision: int
    plan: TrafficPlan
    models: dict[str, LoadedModel]
    task: TaskSpec = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", _widest(self.models.values()))


class ModelPool:
    """Models that follow the state of the parent. Used from the event loop; models are loaded in a separate thread.

    Args:
        promise: share of right answers among certain ones; None: nothing is promised.
    """

    def __init__(self, *, promise: float | None = None) -> None:
        self._promise = promise
        self.in_force: InForce | None = None
        self._state: RouterState | None = None
        self._errors: dict[str, str] = {}
        self._loading: frozenset[str] = frozenset()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self.load_failures = 0

    async def follow(self, state: RouterState) -> bool:
        """Activate a state.

        If a version is missing or broken, the active plan stays. If there is none yet, the champion alone serves.

        Returns:
            True if the state is active.
        """
        self._state = state
        self._errors = dict(state.errors)
        plan = state.plan
        if plan is None:
            return False
        models: dict[str, LoadedModel] = {}
        self._loading = frozenset(plan.versions) - (self.in_force.models.keys() if self.in_force else set())
        for version in plan.versions:
            model = await self._model(version, state, models)
            if model is not None:
                models[version] = model
        self._loading = frozenset()
        if len(models) == len(plan.versions):
            self.in_force = InForce(revision=state.revision, plan=plan, models=models)
            return True
        champion = models.get(plan.champion.version)
        if self.in_force is None and champion is not None:
            alone = single(champion.version, salt=plan.salt)
            self.in_force = InForce(revision=state.revision, plan=alone, models={champion.version: champion})
        return False

    async def _model(self, version: str, state: RouterState, loaded: Mapping[str, LoadedModel]) -> LoadedModel | None:
        """Return the model of a version. If it cannot serve beside the loaded ones, keep its error and return None."""
        digest = state.versions.get(version, "")
        others: list[LoadedModel] = [*(self.in_force.models.values() if self.in_force else ()), *loaded.values()]
        for held in others:
            if held.digest == digest:
                if held.version == version:
                    return held
                return replace(held, version=version)
        folder = state.folders.get(digest)
        if folder is None:
            self._errors.setdefault(version, "its package is not fetched yet")
            return None
        try:
            task = _widest(others) if others else None
            engine = await asyncio.get_running_loop().run_in_executor(self._loader, _load, Path(folder), digest, task)
        except Exception as error:  # onnxruntime's errors share no public base
            self.load_failures += 1
            known = isinstance(error, EvergreenError | OSError)
            self._errors[version] = str(error) if known else f"{type(error).__name__}: {error}"
            _log.error("version %s cannot be loaded: %s", version, self._errors[version])
            return None
        least = read_least_scores(Path(folder), self._promise)
        if least is None and self._promise is not None:
            _log.warning("version %s has no least scores for the promise; `certain` is null in its answers", version)
        return LoadedModel(version=version, digest=digest, engine=engine, loaded_at=iso(utc_now()), least_scores=least)

    def describe(self) -> list[dict[str, Any]]:
        """Return the versions of the newest state as `GET /v1/models` shows them."""
        state = self._state
        held = self.in_force.models if self.in_force else {}
        wanted = state.plan.versions if state and state.plan else ()
        return [
            {
                "version": version,
                "alias": _alias(version, state),
                "digest": held[version].digest if version in held else (state.versions.get(version) if state else None),
                **_described(held[version].engine.task if version in held else None),
                "loaded_at": held[version].loaded_at if version in held else None,
                "state": self._stage(version, wanted),
                "last_error": self._errors.get(version),
            }
            for version in dict.fromkeys((*wanted, *held))
        ]

    def _stage(self, version: str, wanted: tuple[str, ...]) -> str:
        if self.in_force and version in self.in_force.models:
            return "serving" if version in wanted else "serving, to be replaced"
        if version in self._loading:
            return "loading"
        return "failed" if version in self._errors else "waiting"

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=False, cancel_futures=True)


def _alias(version: str, state: RouterState | None) -> str | None:
    if state is None:
        return None
    if version == state.champion:
        return CHAMPION
    return "challenger" if version == state.challenger else None


def _widest(models: Iterable[LoadedModel]) -> TaskSpec:
    return max((model.engine.task for model in models), key=lambda task: task.n_labels)


def _described(task: TaskSpec | None) -> dict[str, Any]:
    if task is None:
        return {"task": None, "input": None, "labels": None}
    return {"task": task.name, "input": task.input, "labels": list(task.labels)}


def _load(folder: Path, digest: str, active: TaskSpec | None) -> Engine:
    """Load and warm up a package.

    Raises:
        PermanentError: the package is of another task than the active one. Versions of one task may have appended
            labels.
    """
    package = load_package(folder, expected_digest=digest)
    task = package.config.task
    if active is not None and not (task.extends(active) or active.extends(task)):
        raise PermanentError(
            f"expected a package of the active task {active.describe()}, got one of {task.describe()}; "
            "register it in the home of its own task"
        )
    engine = Engine.load(package, threads=1)
    engine.warm_up()
    return engine
