"""Verdict record: judgement on a window of live traffic, and the retrainings that were started for it."""

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal

from absa.records.layout import verdict_key
from absa.records.schema import SCHEMA_VERSION, Window, iso, parse_iso

Level = Literal["FRESH", "WATCH", "STALE"]
VerdictAction = Literal["none", "retrain", "ask_labels", "skipped"]
AttemptState = Literal["started", "completed", "failed"]
_F1: Final = {"f1": "", "estimated_f1": "estimated_"}
MAX_ATTEMPTS: Final = 3  # largest number of retrainings per window
NO_MATCH: Final = "none"  # `matching` of a reference without rows of the window's hours


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Finding in one sentence.

    `wrong_answers_a_day` is the cost: lost F1 times traffic.
    """

    kind: str
    sentence: str
    statistic: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    estimated_f1_loss: float | None = None
    wrong_answers_a_day: float | None = None


@dataclass(frozen=True, kw_only=True)
class PartFigures:
    """Figures of one class or segment of one version in one window.

    F1 is the F1 of a class, or the mean F1 of the evaluated labels for a segment. Each has a 95 % interval; None if it
    is unknown.
    `trusted` is True if the estimate agrees with the labels; None if there are too few labels.
    """

    rows: int
    labelled: int
    estimated_f1: float | None = None
    estimated_low: float | None = None
    estimated_high: float | None = None
    f1: float | None = None
    low: float | None = None
    high: float | None = None
    trusted: bool | None = None


@dataclass(frozen=True, kw_only=True)
class VersionFigures:
    """One version in one window.

    F1 is the mean of the task's evaluated labels; None without labels or rows. If `default_task` is True, F1 is pos/neg
    F1, and the record has it under this name too. `unasked` counts labels that were not requested; the test of a slow
    loss sums them up. `right` counts the right answers among them (among all labels in records without `unasked`).
    `parts` are the same figures per class and per segment. With a `promise`, `coverage` is the share of certain
    answers. `certain_labelled` counts certain answers with a label that was not requested; `certain_right` of them were
    right.
    """

    rows: int
    labelled: int
    f1: float | None
    estimated_f1: float | None
    flip_rate: float | None = None
    right: int | None = None
    unasked: int | None = None
    parts: dict[str, PartFigures] = field(default_factory=dict)
    default_task: bool = True
    promise: float | None = None
    coverage: float | None = None
    certain_right: int | None = None
    certain_labelled: int | None = None

    @property
    def kept_share(self) -> float | None:
        """Share of right answers among the labelled certain answers; None if there are none."""
        return (self.certain_right or 0) / self.certain_labelled if self.certain_labelled else None

    @property
    def pos_neg_f1(self) -> float | None:
        """Measured pos/neg F1; None for any task but the default one."""
        return self.f1 if self.default_task else None

    @property
    def estimated_pos_neg_f1(self) -> float | None:
        """Estimated pos/neg F1; None for any task but the default one."""
        return self.estimated_f1 if self.default_task else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a record."""
        values = asdict(self)
        if values.pop("default_task"):
            values |= {"pos_neg_f1": self.f1, "estimated_pos_neg_f1": self.estimated_f1}
        return values


@dataclass(frozen=True, kw_only=True)
class ReferenceUse:
    """Reference of a verdict: it has `held` rows, and the `rows` of `matching` hours and days were compared.

    The rows are from `windows` windows, which started from `first` to `last` (ISO 8601). `joined` is True if the rows
    of the verdict's own window are part of the reference now.
    """

    rows: int
    held: int
    windows: int
    first: str | None
    last: str | None
    matching: str
    joined: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Retraining that was started for a window; `key` is its Prefect idempotency key `<window>-<number>`."""

    number: int
    key: str
    at: datetime
    state: AttemptState = "started"
    flow_run_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Judgement on a window. `revision` counts from 1; late labels, attempts and the report make new revisions."""

    window: Window
    verdict: Level
    version: str | None
    by_version: dict[str, VersionFigures]
    reasons: tuple[Reason, ...]
    action: VerdictAction
    action_reason: str
    attempts: tuple[Attempt, ...] = ()
    report_uri: str | None = None
    reference: ReferenceUse | None = None
    at: datetime
    revision: int = 1

    @property
    def key(self) -> str:
        """Key of the record in the lake."""
        return verdict_key(self.window.key, self.revision)

    @property
    def retraining_is_due(self) -> bool:
        """Return True if an attempt may start: it is requested, none runs or is completed, fewer than three exist."""
        states = {attempt.state for attempt in self.attempts}
        return self.action == "retrain" and not states & {"started", "completed"} and len(self.attempts) < MAX_ATTEMPTS

    @property
    def next_attempt_key(self) -> str:
        """Idempotency key of the next attempt."""
        return f"{self.window.key}-{len(self.attempts) + 1}"

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        data: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "revision": self.revision,
            "at": iso(self.at),
            "window_start": iso(self.window.start),
            "window_end": iso(self.window.end),
            "verdict": self.verdict,
            "version": self.version,
            "by_version": {version: figures.to_json() for version, figures in self.by_version.items()},
            "reasons": [asdict(reason) for reason in self.reasons],
            "action": self.action,
            "action_reason": self.action_reason,
            "attempts": [{**asdict(attempt), "at": iso(attempt.at)} for attempt in self.attempts],
            "report_uri": self.report_uri,
            "reference": None if self.reference is None else asdict(self.reference),
        }
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Verdict":
        """Read a record; unknown fields are ignored.

        Raises:
            ValueError, KeyError, TypeError: a field is missing or wrong.
        """
        return cls(
            window=Window(start=parse_iso(data["window_start"]), end=parse_iso(data["window_end"])),
            verdict=data["verdict"],
            version=data.get("version"),
            by_version={v: _figures(f) for v, f in data["by_version"].items()},
            reasons=tuple(Reason(**_known(Reason, reason)) for reason in data["reasons"]),
            action=data["action"],
            action_reason=data["action_reason"],
            attempts=tuple(
                Attempt(**{**_known(Attempt, attempt), "at": parse_iso(attempt["at"])})
                for attempt in data.get("attempts", [])
            ),
            report_uri=data.get("report_uri"),
            reference=_reference(data.get("reference")),
            at=parse_iso(data["at"]) if "at" in data else parse_iso(data["window_end"]),
            revision=int(data.get("revision", 1)),
        )


def _figures(data: dict[str, Any]) -> VersionFigures:
    parts = {name: PartFigures(**_known(PartFigures, part)) for name, part in data.get("parts", {}).items()}
    known = _known(VersionFigures, data)  # earlier releases wrote only the names of the default task's figures
    found = {name: data[name] if name in data else data.get(f"{prefix}pos_neg_f1") for name, prefix in _F1.items()}
    return VersionFigures(**{**known, **found, "parts": parts, "default_task": "pos_neg_f1" in data})


def _reference(data: dict[str, Any] | None) -> ReferenceUse | None:
    return None if data is None else ReferenceUse(**_known(ReferenceUse, data))


def _known(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
