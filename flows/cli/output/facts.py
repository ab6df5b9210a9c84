"""JSON of every command: one type per command, with a description of each key. docs/reference/json.md is made from it.

Keys stay: a release adds keys, and removes or renames none without a line in the changelog. Times are ISO 8601 in UTC.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict


class InitFacts(TypedDict):
    """Recognised form of a file."""

    config: Annotated[str, "evergreen.toml that was written."]
    task: Annotated[Mapping[str, Any], "Its section [task]: name, input, labels, evaluated."]
    columns: Annotated[Mapping[str, str], "Column of the file by what it holds, its section [data]."]


class TrainFacts(TypedDict, total=False):
    """Result of a training. On a machine of AWS Batch: job, queue, waited_s, ran_s and tries alone."""

    version: Annotated[str, "Registry version."]
    verdict: Annotated[str, "Decision of the gate: PROMOTE, HOLD or REJECT."]
    action: Annotated[str, "crowned: it is champion; challenged: it is challenger; kept: the champion stays; skipped."]
    reason: Annotated[str, "Reason why nothing was trained, where it was skipped; missing otherwise."]
    reasons: Annotated[list[str], "Sentences of the gate."]
    snapshot: Annotated[str, "Digest of the rows that it learned from."]
    f1: Annotated[float, "Primary metric on the test split, 0 to 1."]
    champion_f1: Annotated[float | None, "The champion's on the same rows; null for a first version."]
    task: Annotated[str, "Name of the task."]
    metric: Annotated[str, "Name of the primary metric."]
    pos_neg_f1: Annotated[float, "f1 under its name in the ABSA task; missing in other tasks."]
    budget_s: Annotated[float, "Budget of the run, in seconds."]
    used_s: Annotated[float, "Time that the run took, in seconds."]
    layers: Annotated[int | None, "Layers of the version."]
    size_mb: Annotated[float | None, "Size of the package, in MB."]
    rows_per_s: Annotated[float | None, "Rows per second of one thread on this machine; null where not measured."]
    usd_per_million: Annotated[float | None, "US dollars per million predictions at that speed; null where not known."]
    ladder: Annotated[list[Any], "Every version of a run with a ladder, each with these keys."]
    job: Annotated[str, "Job of AWS Batch."]
    queue: Annotated[str, "Queue of the job."]
    waited_s: Annotated[float, "Wait for a machine, in seconds."]
    ran_s: Annotated[float, "Time of the job, in seconds."]
    tries: Annotated[int, "Machines that were tried."]


class RetrainFacts(TypedDict):
    """Retraining: done here, or started in Prefect."""

    reason: Annotated[str, "Origin of the request."]
    flow_run: Annotated[str | None, "Id of Prefect's run; null where it ran here."]
    url: Annotated[str | None, "Page of that run."]
    training: Annotated[Mapping[str, Any] | None, "Result as `train --json` prints it; null where Prefect runs it."]


class ServeFacts(TypedDict):
    """Router."""

    url: Annotated[str, "Address of router and console."]
    running: Annotated[bool, "True while it runs; false after Ctrl-C."]
    champion: Annotated[str | None, "Version that answers; null before the first training."]


class PredictFacts(TypedDict):
    """Answer for one text."""

    name: Annotated[str, "Most likely label."]
    scores: Annotated[Mapping[str, float], "Score of each label, 0 to 1; they add up to 1."]
    model_version: Annotated[str, "Version that answered."]
    arm: Annotated[str | None, "Arm of the experiment, by a router; null without one."]
    request_id: Annotated[str | None, "Id for feedback, by a router; null without one, where nothing is logged."]
    certain: Annotated[bool | None, "True where the promised precision holds; null without a promise or a router."]


class BatchFacts(TypedDict):
    """Result of a batch."""

    output: Annotated[str, "Place of the scored rows."]
    version: Annotated[str, "Version that scored."]
    rows: Annotated[int, "Rows scored."]
    quarantined: Annotated[Mapping[str, int], "Rows that were not scored, by reason."]
    labels: Annotated[Mapping[str, int], "Rows by label."]
    already_done: Annotated[bool, "True if an earlier run had scored all of it."]
    elapsed_s: Annotated[float, "Time of the last run, in seconds."]
    drift: Annotated[list[str] | None, "Sentence per drifted column; null without --drift-report."]
    drift_report: Annotated[str | None, "Page of the drift report."]


class ProblemFacts(TypedDict):
    """Result of a check."""

    problems: Annotated[list[str], "Sentence per problem; empty where all holds."]


class StatusFacts(TypedDict):
    """State of a home."""

    home: Annotated[str, "Folder."]
    profile: Annotated[str, "Name of the active profile."]
    config: Annotated[str | None, "evergreen.toml in use."]
    champion: Annotated[Mapping[str, Any] | None, "version, since, age and reason."]
    challenger: Annotated[str | None, "Version under test."]
    traffic: Annotated[Mapping[str, Any] | None, "mode, record of the ledger, and arms with name, version and share."]
    promotion: Annotated[Mapping[str, Any] | None, "experiment, step, next, next_at and ends_at of a running one."]
    dropped: Annotated[
        Mapping[str, Any] | None,
        "versions that an experiment of the champion dropped last, at, reason and record; null without such.",
    ]
    training: Annotated[Mapping[str, Any] | None, "phase, detail, left_s and line of a running one."]
    retraining: Annotated[
        Mapping[str, Any] | None,
        "labels since the champion's snapshot, needed, missing, and sees_gain (a share); null without a champion.",
    ]
    attempts: Annotated[
        list[Any],
        "Last trainings, newest first: version and decision (null without a version), at, outcome (registered, failed "
        "or lost), reason, and the holds.",
    ]
    ledger: Annotated[Mapping[str, Any], "records (count; null if they cannot be read) and problems (sentences)."]
    verdicts: Annotated[list[Any], "Last verdicts: start, end, verdict and reasons."]
    monitor: Annotated[str | None, "Sentence about the monitor's last run."]
    servers: Annotated[list[Any], "name, running and page of each server."]
    unreadable: Annotated[list[str], "Sentence per damaged record: the file, and what to do."]


class MonitorFacts(TypedDict):
    """Judgement of a window."""

    start: Annotated[str, "Start of the window."]
    end: Annotated[str, "End of the window."]
    version: Annotated[str | None, "Version that was judged."]
    verdict: Annotated[str, "FRESH, WATCH or STALE."]
    action: Annotated[str, "Action that the verdict requires, such as none or retrain."]
    reasons: Annotated[list[str], "Sentences."]
    report: Annotated[str | None, "Address of the window's report."]
    flow_run: Annotated[str | None, "Id of the retraining that was started; null where none was."]
    training: Annotated[Mapping[str, Any] | None, "Result of a retraining that ran here, as `train --json` prints it."]


class LabelsExportFacts(TypedDict):
    """Rows to label."""

    file: Annotated[str, "CSV to fill."]
    rows: Annotated[int, "Rows in it."]
    why: Annotated[Mapping[str, int], "Rows by the reason why a label is worth it."]
    labels: Annotated[list[str], "Values that the column label takes: names and codes."]


class LabelsImportFacts(TypedDict):
    """Account of an import."""

    rows: Annotated[int, "Rows of the file."]
    taken: Annotated[int, "Labels taken."]
    unlabelled: Annotated[int, "Rows without a label."]
    refused: Annotated[Mapping[str, Sequence[int]], "Lines of refused rows, by reason."]
    source: Annotated[str, "Source of the labels."]
    measures: Annotated[bool, "True if the source may measure."]
    trains: Annotated[bool, "True if the source may train."]


class PromoteFacts(TypedDict):
    """Result of a promotion, or its start."""

    versions: Annotated[list[str], "Versions that are tried, or the one that was promoted."]
    champion: Annotated[str | None, "Champion now."]
    record: Annotated[int, "Number of the ledger's newest record."]
    ended: Annotated[list[str], "Sentences about an experiment that this ended."]
    reason: Annotated[str, "Reason of that record."]
    flow_run: Annotated[str | None, "Id of Prefect's run; null where the command runs the promotion."]
    url: Annotated[str | None, "Page of that run."]


class RollbackFacts(TypedDict):
    """Result of a rollback."""

    champion: Annotated[str | None, "Champion now."]
    before: Annotated[str | None, "Champion before."]
    record: Annotated[int, "Number of the ledger record."]
    ended: Annotated[list[str], "Sentences about an experiment or challenger that this ended."]
    former: Annotated[str | None, "Champion that a second rollback would bring back; null where there is none."]


class UpFacts(TypedDict):
    """Servers of a home."""

    pages: Annotated[Mapping[str, str | None], "Address of each part; null for one that only works."]
    notices: Annotated[list[str], "Sentences about ports, settings, packages and aliases."]


class DownFacts(TypedDict):
    """Servers that were stopped."""

    stopped: Annotated[list[str], "Names of the parts that ran."]
    home: Annotated[str, "Folder, which stays."]


class IngestFacts(TypedDict):
    """Account of an ingest."""

    snapshot: Annotated[str, "Digest of the snapshot."]
    read: Annotated[int, "Rows of the files."]
    inherited: Annotated[int, "Rows of the snapshot before."]
    kept: Annotated[int, "Rows of the new snapshot."]
    duplicates: Annotated[int, "Rows left out because another one is the same."]
    conflicts: Annotated[int, "Rows left out because a later one has another label."]
    quarantined: Annotated[Mapping[str, int], "Refused rows by reason."]
    refused_rows: Annotated[str | None, "CSV of the refused rows."]
    rows: Annotated[Mapping[str, Mapping[str, int]], "Rows by split and label."]
    notices: Annotated[list[str], "Sentences about columns that were not used."]


class SnapshotFacts(TypedDict):
    """Snapshot of a lake."""

    snapshot: Annotated[str, "Digest."]
    newest: Annotated[bool, "True for the one that trainings learn from."]
    taken_at: Annotated[str, "Time of its last ingest."]
    rows: Annotated[Mapping[str, int], "Rows by split."]
    added: Annotated[int, "Rows more than its parent has."]
    quarantined: Annotated[int, "Refused rows."]
    files: Annotated[list[str], "Files of the ingest."]
    parent: Annotated[str | None, "Digest of the snapshot before."]


class DropFacts(TypedDict):
    """Reverted ingest."""

    dropped: Annotated[str, "Digest of the snapshot that was dropped."]
    newest: Annotated[str | None, "Digest of the newest snapshot now; null where none is left."]


class SentenceFacts(TypedDict):
    """Result in sentences."""

    sentences: Annotated[list[str], "Sentences about the work done."]


class SimulateFacts(TypedDict):
    """Simulated traffic."""

    arms: Annotated[list[Any], "arm, version, answered and share_right (0 to 1) of each version that answered."]
    failed: Annotated[Mapping[str, int], "Failed requests by reason."]


class InsightsFacts(TypedDict):
    """Answers by phrase and segment."""

    start: Annotated[str, "Start of the window."]
    end: Annotated[str, "End of the window."]
    label: Annotated[str, "Label whose share is given: the first evaluated one."]
    rows: Annotated[
        list[Any], "aspect (or topic), segment, rows, share, low and high (95 %), and change, all shares 0 to 1."
    ]
    file: Annotated[str | None, "CSV that was written."]
    plot: Annotated[str | None, "Picture that was written."]
    artifact: Annotated[bool, "True if Prefect shows the same."]


class BaseFacts(TypedDict):
    """Base model."""

    base: Annotated[str, "Digest, for `train --encoder`."]
    folder: Annotated[str, "Folder of the weights."]
    made: Annotated[bool, "False where equal files had made it before."]


class CapacityFacts(TypedDict):
    """Simulated load under scaling policies."""

    trace: Annotated[str, "Name of the load."]
    requests: Annotated[float, "Requests of the trace."]
    peak_per_s: Annotated[float, "Highest requests/s."]
    task_per_s: Annotated[float, "Requests/s of a task."]
    measured: Annotated[bool, "True if that was measured, not declared."]
    usd_per_task_hour: Annotated[float, "Price of a task for an hour, US$."]
    policies: Annotated[
        list[Any], "plan, p50_ms, p99_ms, shed_share, peak_tasks, task_hours, usd and usd_per_million of each policy."
    ]
    plot: Annotated[str | None, "Picture that was written."]


class CostFacts(TypedDict):
    """Projected cost."""

    cost: Annotated[
        Mapping[str, Any],
        "Record of the lake: setup, usd_per_million_live, usd_per_million_batch, usd_per_training, usd_per_month, "
        "usd_per_idle_month, lines of the bill, arithmetic, measured, missing, unverified_prices, price_dates.",
    ]
    kept: Annotated[str | None, "Place of the record; null without a home."]


class ConfigFacts(TypedDict):
    """Effective value."""

    section: Annotated[str, "Section of evergreen.toml; empty above the first."]
    key: Annotated[str, "Key of the section."]
    value: Annotated[Any, "Value; secrets are masked."]
    origin: Annotated[str, "default, profile NAME, file, settings.env or environment."]
    variable: Annotated[str | None, "Environment variable that takes precedence."]


class FindingFacts(TypedDict):
    """Finding of a check of the machine."""

    ok: Annotated[bool, "True if it is as it must be."]
    sentence: Annotated[str, "Finding."]


class BackupFacts(TypedDict):
    """Backup of a home."""

    file: Annotated[str, "Tar file that was made."]
    files: Annotated[int, "Files in it."]
    bytes: Annotated[int, "Their size."]
    ledger_head: Annotated[int, "Number of the newest ledger record in it."]
    notices: Annotated[list[str], "Sentences about stores that are not in the home, and about removed files."]


class RestoreFacts(TypedDict):
    """Restored home."""

    home: Annotated[str, "Folder."]
    at: Annotated[str, "Time of the backup."]
    release: Annotated[str, "Release that made the backup."]
    files: Annotated[int, "Files restored."]
    records: Annotated[int, "Records of the ledger."]
    problems: Annotated[list[str], "Problems of the ledger; empty where it is verified."]


class ServiceFacts(TypedDict):
    """Unit of systemd."""

    unit: Annotated[str, "Name of the file."]
    text: Annotated[str, "Its content."]
    file: Annotated[str | None, "Place where it was written; null where it was printed."]
    notices: Annotated[list[str], "Sentences about variables that it leaves out."]


class ExportFacts(TypedDict):
    """Exported version."""

    version: Annotated[str, "Version."]
    folder: Annotated[str, "Folder that holds it."]
    format: Annotated[str, "package or huggingface."]


class GateFacts(TypedDict):
    """Verdict on a package against another."""

    verdict: Annotated[str, "PROMOTE, HOLD or REJECT."]
    reasons: Annotated[list[str], "Sentences, the decisive ones first."]
    candidate: Annotated[str, "Name of the candidate."]
    champion: Annotated[str, "Name of the other package."]
    rows_from: Annotated[str, "Rows that they were judged on."]
    grounds: Annotated[str | None, "better, or not worse and cheaper; null unless it is PROMOTE."]
    checks: Annotated[list[Any], "Every check: name, status (pass, hold, fail, info), sentence."]
    evidence: Annotated[Mapping[str, Any], "Figures that the verdict is made from, as in gate.json."]


class LedgerFacts(TypedDict):
    """Ledger, or the result of an action on it."""

    action: Annotated[str, "show, verify, project or packages."]
    sentences: Annotated[list[str], "Lines that the command prints."]
    problems: Annotated[list[str], "Inconsistencies; empty where all holds, or was not verified."]
    records: Annotated[list[Any], "Every record, for the action show; empty for the others."]
