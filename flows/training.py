"""The training step: a candidate from the snapshot and the champion's weights, in a process that keeps the budget."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from absa.adapters.ledger import LedgerRecord
from absa.errors import DeadlineMissedError
from absa.job import WEIGHTS_FOLDER
from absa.modeling.folders import TOKENIZER, find_base
from flows.kept_checkpoints import KeptCheckpoints
from flows.reserve import after_training_s, most_test_rows, reserve_s
from flows.settings import write_whole
from flows.token_process import shards_of
from flows.tracking import TrackedRun
from flows.training_data import champion_of, champion_snapshot_at
from flows.training_process import JobResult, OnEvent, run_job
from flows.wiring import Services

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest

_LEAST_TRAINING_S: Final = 5.0
_VALIDATION_ROWS: Final = 2_000
_MAX_TOKENS: Final = 128

LATEST_EVENT: Final = "latest.json"  # in HOME/jobs: how the training that runs now goes, for whoever shows it


@task(name="train", cache_policy=NO_CACHE)
def train(
    services: Services,
    run: TrackedRun,
    manifest: "Manifest",
    head: LedgerRecord | None,
    *,
    budget_s: float,
    ends_at: float,
    base: str | None = None,
    on_event: OnEvent,
) -> JobResult:
    """Train and package in a child process that ends before the deadline.

    It goes on from the champion's weights, unless a base model is named: then it starts from that.
    """
    from absa.data.snapshot import sample_side

    settings = services.settings
    folder = services.home.folder("jobs", run.run_id)
    since = champion_snapshot_at(services, head)
    rows = sample_side(services.lake, manifest.digest, "validation", _VALIDATION_ROWS)
    rows.select("text", "aspect", "label", "segment").write_ndjson(folder / "validation.jsonl")
    wanted = {
        "base_model": base or settings.base_model,
        "layers": settings.layers,
        "hidden": settings.hidden,
        "max_epochs": settings.max_epochs,
        "learning_rate": settings.learning_rate,
        "batch_tokens": settings.batch_tokens,
    }
    weights = champion_weights(services, head) if base is None else None
    if weights is not None:
        wanted |= {
            "warm_start": str(weights),
            "max_epochs": settings.warm_epochs,
            "train_layers": settings.warm_layers,
        }
    chosen = {name: value for name, value in wanted.items() if value is not None}
    test_rows = most_test_rows(budget_s, champion=since is not None)
    judged = min(test_rows, manifest.side_rows("test"))
    reserve = reserve_s(settings, budget_s, judged_rows=judged, champion=since is not None)
    reserve = max(reserve, min(after_training_s(services, champion=champion_of(head) is not None), 0.4 * budget_s))
    if ends_at - time.time() < reserve + _LEAST_TRAINING_S:
        raise DeadlineMissedError("too little of the budget is left to train; nothing was registered")
    kept = KeptCheckpoints(services.lake, run.run_id, {"snapshot": manifest.digest, **chosen}, folder / "checkpoints")
    adopted = kept.adopt()
    run.params(
        {
            **chosen,
            "train_rows": manifest.side_rows("train"),
            "recent_since": since.isoformat() if since else None,
            "replay": settings.replay if since else None,
            "reserve_s": round(reserve, 1),
            "resumed_from_run": adopted,
            "budget_ends_at": datetime.fromtimestamp(ends_at, UTC).isoformat(),
        }
    )

    def relay(event: Mapping[str, Any]) -> None:
        if event.get("event") == "phase" and event.get("name") == "export":
            shards.stop()  # nothing is learned any more: packaging and judging get the machine
        run.event(event)
        on_event(event)
        write_whole(services.home.folder("jobs") / LATEST_EVENT, json.dumps({**event, "run": run.run_id}))

    tokenizer = find_base(str(chosen.get("warm_start", chosen["base_model"]))) / TOKENIZER
    with (
        shards_of(
            services.lake,
            manifest.digest,
            tokenizer,
            _MAX_TOKENS,
            cache=services.home.root,
            environment=services.environment,
        ) as shards,
        kept.copied(),
    ):
        job = {
            "settings": chosen,
            "ends_at": ends_at,
            "reserve_s": reserve,
            "snapshot": manifest.digest,
            "tokens": str(shards.folder),
            "checkpoints": str(kept.folder),
            "since": since.timestamp() if since else None,
            "replay": settings.replay,
        }
        (folder / "job.json").write_text(json.dumps(job, indent=1))
        result = run_job(folder, ends_at=ends_at, environment=services.environment, on_event=relay)
    kept.clear()
    run.params({name: value for name, value in result.done.items() if isinstance(value, int | float)})
    run.params({f"choice_{name}": value for name, value in result.done.get("choice", {}).items()})
    return result


def champion_weights(services: Services, head: LedgerRecord | None) -> Path | None:
    """The champion's fp32 weights on local disk to go on from, or None where they were never kept."""
    champion = champion_of(head)
    if champion is None:
        return None
    run_id = services.reader.version(champion).tags.get("run")
    if run_id is None:
        return None
    folder = services.home.folder("jobs", run_id) / WEIGHTS_FOLDER
    prefix = weights_prefix(run_id)
    for key in services.lake.list(prefix):
        file = folder / key.removeprefix(prefix)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(services.lake.read(key))
    return folder if (folder / "config.json").is_file() else None


def weights_prefix(run_id: str) -> str:
    """Where a run's fp32 weights lie in the lake."""
    return f"runs/{run_id}/{WEIGHTS_FOLDER}/"
