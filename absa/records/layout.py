"""Layout of the lake: only this module makes folders and keys.

Folders end with `/`. Keys of a batch job are relative to its output, which may be outside the lake.
"""

import re
from datetime import datetime
from typing import Final

LEDGER_FOLDER: Final = "ledger/"
EVIDENCE_FOLDER: Final = "evidence/"
PACKAGES_FOLDER: Final = "packages/"
SNAPSHOTS_FOLDER: Final = "snapshots/"
TOKENS_FOLDER: Final = "tokens/"
TEACHERS_FOLDER: Final = "teachers/"
RUNS_FOLDER: Final = "runs/"
FLOW_RUNS_FOLDER: Final = "flow_runs/"
PREDICTIONS_FOLDER: Final = "predictions/"
FEEDBACK_FOLDER: Final = "feedback/"
OUTCOMES_FOLDER: Final = "outcomes/"
VERDICTS_FOLDER: Final = "verdicts/"
TRAININGS_FOLDER: Final = "trainings/"
EXPERIMENTS_FOLDER: Final = "experiments/"
MONITORING_FOLDER: Final = "monitoring/"
INSIGHTS_FOLDER: Final = "insights/"
COST_FOLDER: Final = "cost/"
BATCH_FOLDER: Final = "batch/"
QUARANTINE_FOLDER: Final = "quarantine/"
FOLDERS: Final = frozenset(value for name, value in globals().copy().items() if name.endswith("_FOLDER"))

COST_CURRENT: Final = f"{COST_FOLDER}current.json"
INSIGHTS_CURRENT: Final = f"{INSIGHTS_FOLDER}current.json"

_HOUR: Final = re.compile(rf"{PREDICTIONS_FOLDER}date=(\d{{4}}-\d\d-\d\d)/hour=(\d\d)/.+\.parquet")

JOB: Final = "job.json"
JOB_MANIFEST: Final = "manifest.json"
JOB_PARTS: Final = "part-"
JOB_COMMITS: Final = "done/"
JOB_DRIFT_REPORT: Final = "drift/report.html"
JOB_DRIFT_FINDINGS: Final = "drift/findings.json"


def ledger_key(number: int) -> str:
    """Key of a ledger record."""
    return f"{LEDGER_FOLDER}{number:010d}.json"


def ledger_number(key: str) -> int | None:
    """Return the number of the ledger record under a key; None for another key."""
    name = key.removeprefix(LEDGER_FOLDER).removesuffix(".json")
    return int(name) if name.isdigit() else None


def evidence_key(digest: str) -> str:
    """Key of the evidence of a ledger record."""
    return f"{EVIDENCE_FOLDER}{digest}.json"


def package_folder(digest: str) -> str:
    """Folder of a model package."""
    return f"{PACKAGES_FOLDER}{digest}/"


def snapshot_folder(digest: str) -> str:
    """Folder of a snapshot."""
    return f"{SNAPSHOTS_FOLDER}{digest}/"


def manifest_key(digest: str) -> str:
    """Key of a snapshot's manifest; a snapshot without one does not exist."""
    return f"{SNAPSHOTS_FOLDER}{digest}/manifest.json"


def manifest_digest(key: str) -> str | None:
    """Return the digest of the snapshot whose manifest is under a key; None for another key."""
    return key.split("/")[1] if key.endswith("/manifest.json") else None


def side_folder(digest: str, side: str) -> str:
    """Folder of one side of a snapshot: train, validation, test or quarantine."""
    return f"{SNAPSHOTS_FOLDER}{digest}/{side}/"


def side_part_key(digest: str, side: str, number: int) -> str:
    """Key of a Parquet part of a side; numbers count from 0."""
    return f"{side_folder(digest, side)}part-{number:05d}.parquet"


def token_folders(snapshot: str) -> str:
    """Prefix of every folder with token shards of a snapshot."""
    return f"{TOKENS_FOLDER}{snapshot}-"


def shards_prefix(snapshot: str, tokenizer: str) -> str:
    """Folder of a snapshot's token shards for one tokenizer; both are given by their digests."""
    return f"{token_folders(snapshot)}{tokenizer[:16]}/"


def teachers_prefix(kind: str) -> str:
    """Folder of the teachers of one kind (equal encoder, settings, task and budget), given by its digest."""
    return f"{TEACHERS_FOLDER}{kind[:16]}/"


def teacher_folder(kind: str, snapshot: str) -> str:
    """Folder of a kind's teacher that was trained on a snapshot: facts, weights and answers."""
    return f"{teachers_prefix(kind)}{snapshot[:16]}/"


def answers_key(teacher: str, rows: str) -> str:
    """Key of a teacher's answers to rows, given by the teacher's folder and the digest of the rows."""
    return f"{teacher}answers/{rows[:16]}.npz"


def quarantine_key(digest: str) -> str:
    """Key of the bad rows of a refused file."""
    return f"{QUARANTINE_FOLDER}{digest[:12]}.parquet"


def open_run_key(digest: str) -> str:
    """Key of the note with the unfinished run of a training, given by the digest of the training's inputs."""
    return f"{RUNS_FOLDER}open/{digest[:32]}.json"


def checkpoints_folder(run_id: str) -> str:
    """Folder of a run's checkpoints."""
    return f"{RUNS_FOLDER}{run_id}/checkpoints/"


def weights_folder(run_id: str) -> str:
    """Folder of a run's fp32 weights."""
    return f"{RUNS_FOLDER}{run_id}/weights/"


def flow_run_key(run_id: str) -> str:
    """Key of a flow run's sign of life."""
    return f"{FLOW_RUNS_FOLDER}{run_id}.json"


def prediction_prefix(at: datetime) -> str:
    """Folder of the predictions for an hour's requests."""
    return f"{PREDICTIONS_FOLDER}date={at:%Y-%m-%d}/hour={at:%H}/"


def prediction_hour(key: str) -> datetime | None:
    """Return the hour of the predictions under a key; None for another key."""
    found = _HOUR.match(key)
    return None if found is None else datetime.strptime(f"{found[1]} {found[2]} +0000", "%Y-%m-%d %H %z")


def feedback_prefix(at: datetime) -> str:
    """Folder of the feedback that was received on a day."""
    return f"{FEEDBACK_FOLDER}date={at:%Y-%m-%d}/"


def outcome_prefix(at: datetime) -> str:
    """Folder of a day's outcome counts."""
    return f"{OUTCOMES_FOLDER}date={at:%Y-%m-%d}/"


def verdict_key(window: str, revision: int) -> str:
    """Key of a revision of a window's verdict; `window` is the key of the window."""
    return f"{verdict_revisions(window)}{revision}.json"


def verdict_revisions(window: str) -> str:
    """Prefix of every revision of a window's verdict."""
    return f"{VERDICTS_FOLDER}{window}.r"


def verdict_of(key: str) -> tuple[str, int] | None:
    """Return the window key and the revision of the verdict under a key; None for another key."""
    window, _, revision = key.removeprefix(VERDICTS_FOLDER).removesuffix(".json").rpartition(".r")
    return (window, int(revision)) if revision.isdigit() else None


def experiment_folder(name: str) -> str:
    """Folder of an experiment."""
    return f"{EXPERIMENTS_FOLDER}{name}/"


def experiment_key(name: str, revision: int) -> str:
    """Key of the looks of an experiment under one revision of the plan."""
    return f"{experiment_folder(name)}{revision}.json"


def watched_key(name: str) -> str:
    """Key of the sign of life of an experiment's promote run."""
    return f"{experiment_folder(name)}watched.json"


def is_look(key: str) -> bool:
    """Return True for a key that `experiment_key` returns."""
    return key.rpartition("/")[2].removesuffix(".json").isdigit()


def reference_key(version: str) -> str:
    """Key of a version's reference: its first live rows with the feedback at that time."""
    return f"{MONITORING_FOLDER}reference/{version}.parquet"


def recent_key(version: str) -> str:
    """Key of the rows of a version's last windows."""
    return f"{MONITORING_FOLDER}recent/{version}.parquet"


def incident_key(name: str) -> str:
    """Key of the mark that the alert of an incident was sent."""
    return f"{MONITORING_FOLDER}incidents/{name}.json"


def announced_key() -> str:
    """Key of the names of recently sent messages about records."""
    return f"{MONITORING_FOLDER}announced.json"


def training_key(name: str) -> str:
    """Key of the state of a training."""
    return f"{TRAININGS_FOLDER}{name}.json"


def job_part_key(number: int) -> str:
    """Key of the scored rows of a batch partition."""
    return f"{JOB_PARTS}{number:06d}.parquet"


def job_quarantine_key(number: int) -> str:
    """Key of the rows of a batch partition that were set aside; absent if there are none."""
    return f"{QUARANTINE_FOLDER}{JOB_PARTS}{number:06d}.parquet"


def job_commit_key(number: int) -> str:
    """Key of the commit of a batch partition."""
    return f"{JOB_COMMITS}{number:06d}.json"


def job_time_key(number: int) -> str:
    """Key of the time of a batch partition's predictions."""
    return f"log/{number:06d}.json"
