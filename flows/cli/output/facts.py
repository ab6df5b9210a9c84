"""JSON of every command: one type per command, with a description of each key.

docs/generate_reference.py makes docs/reference/json.md from these types. Times are ISO 8601 in UTC. A release may add
keys. The changelog names each key that a release removes or renames.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict


class InitFacts(TypedDict):
    """Task and columns that were recognised in a file."""

    config: Annotated[str, "Path of the evergreen.toml that was written."]
    task: Annotated[Mapping[str, Any], "Section [task] of this file: name, input, labels, evaluated."]
    columns: Annotated[Mapping[str, str], "Section [data] of this file: column by field, such as text or label."]


class TrainFacts(TypedDict, total=False):
    """Result of a training. A training on AWS Batch has only the keys job, queue, waited_s, ran_s and tries."""

    version: Annotated[str, "Registry version."]
    verdict: Annotated[str, "Decision of the gate: PROMOTE, HOLD or REJECT."]
    action: Annotated[
        str,
        "crowned: the version is champion; challenged: it is challenger; kept: the champion stays; skipped: there was "
        "no training.",
    ]
    reason: Annotated[str, "Reason of a skipped training; missing otherwise."]
    reasons: Annotated[list[str], "Reasons of the gate, a sentence each."]
    snapshot: Annotated[str, "Digest of the snapshot that the version learned from."]
    f1: Annotated[float, "Primary metric on the test split, 0 to 1."]
    champion_f1: Annotated[float | None, "Primary metric of the champion on the same rows; null for a first version."]
    task: Annotated[str, "Name of the task."]
    metric: Annotated[str, "Name of the primary metric."]
    pos_neg_f1: Annotated[float, "Same value as f1, for the ABSA task; missing in other tasks."]
    budget_s: Annotated[float, "Budget of the run, in seconds."]
    used_s: Annotated[float, "Time that the run took, in seconds."]
    layers: Annotated[int | None, "Layers of the version."]
    size_mb: Annotated[float | None, "Size of the package, in MB."]
    rows_per_s: Annotated[float | None, "Rows per second of one thread on this machine; null if not measured."]
    usd_per_million: Annotated[float | None, "US$ per million predictions at that speed; null if not known."]
    ladder: Annotated[list[Any], "Every version of a run with a ladder, each with the keys above."]
    job: Annotated[str, "Job of AWS Batch."]
    queue: Annotated[str, "Queue of the job."]
    waited_s: Annotated[float, "Time that the job waited for a machine, in seconds."]
    ran_s: Annotated[float, "Time that the job ran, in seconds."]
    tries: Annotated[int, "Number of machines that were tried."]


class RetrainFacts(TypedDict):
    """Retraining, by this command or by Prefect."""

    reason: Annotated[str, "Reason of the retraining, as given by --reason."]
    flow_run: Annotated[str | None, "Id of Prefect's flow run; null if the command trained."]
    url: Annotated[str | None, "Page of this flow run."]
    training: Annotated[Mapping[str, Any] | None, "Result as `train --json` prints it; null if Prefect trains."]


class ServeFacts(TypedDict):
    """Router that was started."""

    url: Annotated[str, "Address of router and console."]
    running: Annotated[bool, "True while it runs; false after Ctrl-C."]
    champion: Annotated[str | None, "Version that answers; null before the first training."]


class PredictFacts(TypedDict):
    """Answer for one text."""

    name: Annotated[str, "Most likely label."]
    scores: Annotated[Mapping[str, float], "Score of each label, 0 to 1; they add up to 1."]
    model_version: Annotated[str, "Version that answered."]
    arm: Annotated[str | None, "Arm of the version in the traffic plan; null if no router answered."]
    request_id: Annotated[str | None, "Id for feedback; null if no router answered: nothing is logged then."]
    certain: Annotated[
        bool | None, "True for a certain answer, false for a deferred one; null without promise or router."
    ]


class BatchFacts(TypedDict):
    """Result of a batch."""

    output: Annotated[str, "Path of the scored rows."]
    version: Annotated[str, "Version that scored."]
    rows: Annotated[int, "Rows scored."]
    quarantined: Annotated[Mapping[str, int], "Number of rows that were not scored, by reason."]
    labels: Annotated[Mapping[str, int], "Number of rows by label."]
    already_done: Annotated[bool, "True if an earlier run had scored all rows."]
    elapsed_s: Annotated[float, "Time of the last run, in seconds."]
    drift: Annotated[list[str] | None, "A sentence for each drifted column; null without --drift-report."]
    drift_report: Annotated[str | None, "Address of the drift report."]


class ProblemFacts(TypedDict):
    """Result of a check."""

    problems: Annotated[list[str], "A sentence for each problem; empty without one."]


class StatusFacts(TypedDict):
    """State of a home."""

    home: Annotated[str, "Folder of the home."]
    profile: Annotated[str, "Name of the active profile."]
    config: Annotated[str | None, "evergreen.toml in use."]
    champion: Annotated[Mapping[str, Any] | None, "version, since, age and reason; null without a champion."]
    challenger: Annotated[str | None, "Version under test."]
    traffic: Annotated[
        Mapping[str, Any] | None, "mode, record (number in the ledger), and arms with name, version and share."
    ]
    promotion: Annotated[
        Mapping[str, Any] | None, "experiment, step, next, next_at and ends_at of a running promotion."
    ]
    dropped: Annotated[
        Mapping[str, Any] | None,
        "Newest rollback from an experiment with the present champion: versions, at, reason and record (number in the "
        "ledger); null without one.",
    ]
    training: Annotated[Mapping[str, Any] | None, "phase, detail, left_s and line of a running training."]
    retraining: Annotated[
        Mapping[str, Any] | None,
        "labels (new since the champion's snapshot), needed, missing, and sees_gain (smallest gain that the gate can "
        "find, 0 to 1); null without a champion.",
    ]
    attempts: Annotated[
        list[Any],
        "Last trainings, newest first: version and decision (null without a version), at, outcome (registered, failed "
        "or lost), reason, and holds (checks that led to HOLD, with advice).",
    ]
    ledger: Annotated[Mapping[str, Any], "records (count; null if they cannot be read) and problems (sentences)."]
    verdicts: Annotated[list[Any], "Last verdicts: start, end, verdict and reasons."]
    monitor: Annotated[str | None, "Sentence about the monitor's last run."]
    servers: Annotated[list[Any], "name, running and page of each server."]
    unreadable: Annotated[list[str], "A sentence for each damaged record: its file, and what to do."]


class MonitorFacts(TypedDict):
    """Judgement of a window."""

    start: Annotated[str, "Start of the window."]
    end: Annotated[str, "End of the window."]
    version: Annotated[str | None, "Version that the verdict is about."]
    verdict: Annotated[str, "FRESH, WATCH or STALE."]
    action: Annotated[str, "Action that the verdict requires, such as none or retrain."]
    reasons: Annotated[list[str], "Reasons of the verdict, a sentence each."]
    report: Annotated[str | None, "Address of the window's report."]
    flow_run: Annotated[str | None, "Id of the flow run of a retraining that was started, or null."]
    training: Annotated[Mapping[str, Any] | None, "Result of a retraining that ran here, as `train --json` prints it."]


class LabelsExportFacts(TypedDict):
    """Rows to label."""

    file: Annotated[str, "CSV to fill."]
    rows: Annotated[int, "Rows in the file."]
    why: Annotated[Mapping[str, int], "Number of rows by the reason for which they were chosen."]
    labels: Annotated[list[str], "Values that are valid in the column label: names and codes."]


class LabelsImportFacts(TypedDict):
    """Account of an import."""

    rows: Annotated[int, "Rows of the file."]
    taken: Annotated[int, "Labels that were imported."]
    unlabelled: Annotated[int, "Rows without a label."]
    refused: Annotated[Mapping[str, Sequence[int]], "Line numbers of refused rows, by reason."]
    source: Annotated[str, "Source of the labels."]
    measures: Annotated[bool, "True if the source may measure."]
    trains: Annotated[bool, "True if the source may train."]


class PromoteFacts(TypedDict):
    """Promotion that was started, or its result."""

    versions: Annotated[list[str], "Versions under test, or the version that was promoted."]
    champion: Annotated[str | None, "Champion after the command."]
    record: Annotated[int, "Number of the ledger's newest record."]
    ended: Annotated[list[str], "Sentences about an experiment that the command ended."]
    reason: Annotated[str, "Reason in this record."]
    flow_run: Annotated[str | None, "Id of Prefect's flow run; null if the command runs the promotion."]
    url: Annotated[str | None, "Page of this flow run."]


class RollbackFacts(TypedDict):
    """Result of a rollback."""

    champion: Annotated[str | None, "Champion after the rollback."]
    before: Annotated[str | None, "Champion before the rollback."]
    record: Annotated[int, "Number of the rollback's ledger record."]
    ended: Annotated[list[str], "Sentences about an experiment or challenger that the rollback ended."]
    former: Annotated[str | None, "Champion that a second rollback would restore, or null."]


class UpFacts(TypedDict):
    """Servers of a home."""

    pages: Annotated[Mapping[str, str | None], "Address of each server by name; null for a server without a page."]
    notices: Annotated[list[str], "Sentences about ports, settings, packages and aliases."]


class DownFacts(TypedDict):
    """Servers that were stopped."""

    stopped: Annotated[list[str], "Names of the servers that ran."]
    home: Annotated[str, "Folder of the home; it is not deleted."]


class IngestFacts(TypedDict):
    """Account of an ingest."""

    snapshot: Annotated[str, "Digest of the snapshot."]
    read: Annotated[int, "Rows of the files."]
    inherited: Annotated[int, "Rows taken from the snapshot before."]
    kept: Annotated[int, "Rows of the new snapshot."]
    duplicates: Annotated[int, "Rows left out because another row is equal."]
    conflicts: Annotated[int, "Rows left out because a later row with the same text has another label."]
    quarantined: Annotated[Mapping[str, int], "Number of refused rows by reason."]
    refused_rows: Annotated[str | None, "CSV of the refused rows."]
    rows: Annotated[Mapping[str, Mapping[str, int]], "Number of rows by split and label."]
    notices: Annotated[list[str], "Sentences about columns that were not used."]


class SnapshotFacts(TypedDict):
    """Snapshot in a lake."""

    snapshot: Annotated[str, "Digest of the snapshot."]
    newest: Annotated[bool, "True for the snapshot that trainings learn from."]
    taken_at: Annotated[str, "Time of its last ingest."]
    rows: Annotated[Mapping[str, int], "Number of rows by split."]
    added: Annotated[int, "Number of rows, minus the number of rows of its parent."]
    quarantined: Annotated[int, "Number of refused rows."]
    files: Annotated[list[str], "Files of the ingest."]
    parent: Annotated[str | None, "Digest of the snapshot before."]


class DropFacts(TypedDict):
    """Reverted ingest."""

    dropped: Annotated[str, "Digest of the snapshot that was dropped."]
    newest: Annotated[str | None, "Digest of the newest snapshot after the drop; null if none is left."]


class SentenceFacts(TypedDict):
    """Result in sentences."""

    sentences: Annotated[list[str], "Sentences about what the command did."]


class SimulateFacts(TypedDict):
    """Simulated traffic."""

    arms: Annotated[
        list[Any], "arm, version, answered (requests) and share_right (0 to 1) of each version that answered."
    ]
    failed: Annotated[Mapping[str, int], "Number of failed requests by reason."]


class InsightsFacts(TypedDict):
    """Share of a label in the answers, by phrase and segment."""

    start: Annotated[str, "Start of the window."]
    end: Annotated[str, "End of the window."]
    label: Annotated[str, "Label whose share is shown: the first evaluated label of the task."]
    rows: Annotated[
        list[Any],
        "aspect (or topic), segment, rows, share, low and high (its 95 % interval), and change since the window "
        "before; shares are 0 to 1.",
    ]
    file: Annotated[str | None, "CSV that was written."]
    plot: Annotated[str | None, "Picture that was written."]
    artifact: Annotated[bool, "True if Prefect shows the same table."]


class BaseFacts(TypedDict):
    """Base model."""

    base: Annotated[str, "Digest, for `train --encoder`."]
    folder: Annotated[str, "Folder of the weights."]
    made: Annotated[bool, "False if the same files had already been added."]


class CapacityFacts(TypedDict):
    """Simulated load under scaling policies."""

    trace: Annotated[str, "Name of the load."]
    requests: Annotated[float, "Requests of the trace."]
    peak_per_s: Annotated[float, "Highest requests/s."]
    task_per_s: Annotated[float, "Requests/s of a task."]
    measured: Annotated[bool, "True if task_per_s was measured, false if it was given."]
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
    """Effective value of a setting."""

    section: Annotated[str, "Section of evergreen.toml; empty for keys above the first section."]
    key: Annotated[str, "Key of the section."]
    value: Annotated[Any, "Value; secrets are masked."]
    origin: Annotated[str, "default, profile NAME, file, settings.env or environment."]
    variable: Annotated[str | None, "Environment variable that takes precedence."]


class FindingFacts(TypedDict):
    """Result of a check of the machine."""

    ok: Annotated[bool, "True if the check passed."]
    sentence: Annotated[str, "Result of the check."]


class BackupFacts(TypedDict):
    """Backup of a home."""

    file: Annotated[str, "Tar file that was made."]
    files: Annotated[int, "Files in the backup."]
    bytes: Annotated[int, "Size of these files, in bytes."]
    ledger_head: Annotated[int, "Number of the newest ledger record in the backup."]
    notices: Annotated[list[str], "Sentences about stores that are not in the home, and about removed files."]


class RestoreFacts(TypedDict):
    """Restored home."""

    home: Annotated[str, "Folder of the home."]
    at: Annotated[str, "Time of the backup."]
    release: Annotated[str, "Release that made the backup."]
    files: Annotated[int, "Files restored."]
    records: Annotated[int, "Records of the ledger."]
    problems: Annotated[list[str], "Problems of the ledger; empty if it is intact."]


class ServiceFacts(TypedDict):
    """Unit of systemd."""

    unit: Annotated[str, "File name of the unit."]
    text: Annotated[str, "Text of the unit."]
    file: Annotated[str | None, "Path of the written file; null if the unit was printed."]
    notices: Annotated[list[str], "Sentences about variables that the unit leaves out."]


class ExportFacts(TypedDict):
    """Exported version."""

    version: Annotated[str, "Version that was exported."]
    folder: Annotated[str, "Folder of the export."]
    format: Annotated[str, "package or huggingface."]


class GateFacts(TypedDict):
    """Verdict of the gate on a package, compared with another package."""

    verdict: Annotated[str, "PROMOTE, HOLD or REJECT."]
    reasons: Annotated[list[str], "Sentences, the decisive ones first."]
    candidate: Annotated[str, "Name of the candidate."]
    champion: Annotated[str, "Name of the other package."]
    rows_from: Annotated[str, "Origin of the rows that both packages were judged on."]
    grounds: Annotated[str | None, "better, or not worse and cheaper; null unless the verdict is PROMOTE."]
    checks: Annotated[list[Any], "name, status (pass, hold, fail, info) and sentence of each check."]
    evidence: Annotated[Mapping[str, Any], "Figures behind the verdict, as in gate.json."]


class LedgerFacts(TypedDict):
    """Ledger, or the result of an action on it."""

    action: Annotated[str, "show, verify, project or packages."]
    sentences: Annotated[list[str], "Lines that the command prints."]
    problems: Annotated[list[str], "Inconsistencies; empty without one, or if the action does not verify."]
    records: Annotated[list[Any], "Every record, for the action show; empty for the others."]
