"""Verdict records in the lake: create-only revisions of what was decided about a window, and its retraining attempts.

The record is the durable trigger: whether a retraining is due, running, done or given up stands here and nowhere else.
Of two writers at the same instant one is told to look again.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal

from absa.errors import AlreadyExistsError, ConflictError, IntegrityError
from absa.records.lake import Lake, read_concurrently
from absa.records.layout import VERDICTS_FOLDER, verdict_key, verdict_of, verdict_revisions
from absa.records.schema import SCHEMA_VERSION, Window, iso, parse_iso, utc_now
from monitoring.drift.sequential import RightAnswers
from monitoring.parts import PartFigures
from monitoring.staleness import MAX_ATTEMPTS, Level, Reason, VerdictAction

_TRIES: Final = 5
AttemptState = Literal["started", "completed", "failed"]


@dataclass(frozen=True, kw_only=True)
class VersionFigures:
    """One version in one window. F1 is pos/neg F1; None where there were no labels or rows. `right` counts the answers
    that were right of the `unasked` labels that slow loss adds up (of all labels in records without it), `parts` are
    the same figures a class and a segment."""

    rows: int
    labelled: int
    pos_neg_f1: float | None
    estimated_pos_neg_f1: float | None
    flip_rate: float | None = None
    right: int | None = None
    unasked: int | None = None
    parts: dict[str, PartFigures] = field(default_factory=dict)

    @property
    def right_answers(self) -> RightAnswers | None:
        """What the slow loss adds up; None in records that do not count right answers."""
        if self.right is None:
            return None
        return RightAnswers(right=self.right, labelled=self.labelled if self.unasked is None else self.unasked)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One retraining that was started for the window; `key` is its Prefect idempotency key `<window>-<number>`."""

    number: int
    key: str
    at: datetime
    state: AttemptState = "started"
    flow_run_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided about a window. `revision` counts from 1; later ones come with late labels, attempts or the
    report."""

    window: Window
    verdict: Level
    version: str | None
    by_version: dict[str, VersionFigures]
    reasons: tuple[Reason, ...]
    action: VerdictAction
    action_reason: str
    attempts: tuple[Attempt, ...] = ()
    report_uri: str | None = None
    at: datetime
    revision: int = 1

    @property
    def key(self) -> str:
        """Where the record lies in the lake."""
        return verdict_key(self.window.key, self.revision)

    @property
    def retraining_is_due(self) -> bool:
        """Whether an attempt may start now: asked for, none running or done, and fewer than three made."""
        states = {attempt.state for attempt in self.attempts}
        return self.action == "retrain" and not states & {"started", "completed"} and len(self.attempts) < MAX_ATTEMPTS

    @property
    def next_attempt_key(self) -> str:
        """The idempotency key of the next attempt."""
        return f"{self.window.key}-{len(self.attempts) + 1}"

    def to_json(self) -> dict[str, Any]:
        """The record as contracts write it."""
        data: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "revision": self.revision,
            "at": iso(self.at),
            "window_start": iso(self.window.start),
            "window_end": iso(self.window.end),
            "verdict": self.verdict,
            "version": self.version,
            "by_version": {version: asdict(figures) for version, figures in self.by_version.items()},
            "reasons": [asdict(reason) for reason in self.reasons],
            "action": self.action,
            "action_reason": self.action_reason,
            "attempts": [{**asdict(attempt), "at": iso(attempt.at)} for attempt in self.attempts],
            "report_uri": self.report_uri,
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
            at=parse_iso(data["at"]) if "at" in data else parse_iso(data["window_end"]),
            revision=int(data.get("revision", 1)),
        )


def _figures(data: dict[str, Any]) -> VersionFigures:
    parts = {name: PartFigures(**_known(PartFigures, part)) for name, part in data.get("parts", {}).items()}
    return VersionFigures(**{**_known(VersionFigures, data), "parts": parts})


def _known(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


class VerdictStore:
    """The verdicts of a lake. Nothing is ever overwritten."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def record(self, verdict: Verdict) -> Verdict:
        """Keep a verdict as the window's next revision, its attempts joined with those already recorded.

        Raises:
            ConflictError: others kept recording this window at the same time.
        """

        def joined(before: Verdict | None) -> Verdict:
            known = {} if before is None else {attempt.number: attempt for attempt in before.attempts}
            known |= {attempt.number: attempt for attempt in verdict.attempts}
            return replace(verdict, attempts=tuple(known[number] for number in sorted(known)))

        return self._follow(verdict.window, joined)

    def latest(self, window: Window | None = None) -> Verdict | None:
        """The last revision of a window, or of the newest window; None where there is no verdict."""
        keys = list(self._named(window))
        return self._read(keys[-1]) if keys else None

    def revisions(self, window: Window) -> list[Verdict]:
        """Every revision of a window, the first one first."""
        return [self._read(key) for key in self._named(window)]

    def newest_first(self) -> Iterator[Verdict]:
        """Yield the last revision of every window, back in time. A record is read when it is yielded."""
        return (self._read(key) for key in self._newest())

    def history(self, *, limit: int | None = None) -> list[Verdict]:
        """Return the last revision of the newest `limit` windows (None: of all), the newest last."""
        keys = list(islice(self._newest(), limit))[::-1]
        return [_verdict(key, data) for key, data in zip(keys, read_concurrently(self._lake, keys), strict=True)]

    def windows(self) -> list[Window]:
        """Return every window that has a verdict by time, the newest last. Reads no record."""
        return [Window.parse(name) for name in dict.fromkeys(window for window, _ in self._named().values())]

    def begin_attempt(self, verdict: Verdict, *, flow_run_id: str | None = None, at: datetime | None = None) -> Verdict:
        """Record that the next attempt starts. Do so before the run is created: a lost race starts nothing.

        Raises:
            ConflictError: another revision came meanwhile, or no retraining is due.
        """
        current = self.latest(verdict.window)
        if current is None or current.revision != verdict.revision or not current.retraining_is_due:
            raise ConflictError(f"no retraining is due for window {verdict.window.key} any more; look again")
        number = len(current.attempts) + 1
        attempt = Attempt(number=number, key=current.next_attempt_key, at=at or utc_now(), flow_run_id=flow_run_id)
        return self._create(replace(current, attempts=(*current.attempts, attempt), at=at or utc_now()), after=current)

    def end_attempt(
        self,
        window: Window,
        number: int,
        state: AttemptState,
        *,
        flow_run_id: str | None = None,
        detail: str = "",
        at: datetime | None = None,
    ) -> Verdict:
        """Record what became of an attempt; `started` with a run's id is the same attempt, now with its run.

        Raises:
            ConflictError: the window has no such attempt, or others kept recording it at the same time.
        """

        def changed(current: Verdict) -> Verdict:
            if number not in {attempt.number for attempt in current.attempts}:
                raise ConflictError(f"window {window.key} has no attempt {number}")
            attempts = tuple(
                replace(attempt, state=state, flow_run_id=flow_run_id or attempt.flow_run_id, detail=detail)
                if attempt.number == number
                else attempt
                for attempt in current.attempts
            )
            return replace(current, attempts=attempts, at=at or utc_now())

        return self._amend(window, changed)

    def attach_report(self, window: Window, report_uri: str | None) -> Verdict:
        """Record where a window's report lies.

        Raises:
            ConflictError: the window has no verdict, or others kept recording it at the same time.
        """
        return self._amend(window, lambda current: replace(current, report_uri=report_uri))

    def _amend(self, window: Window, change: Callable[[Verdict], Verdict]) -> Verdict:
        def changed(before: Verdict | None) -> Verdict:
            if before is None:
                raise ConflictError(f"window {window.key} has no verdict")
            return change(before)

        return self._follow(window, changed)

    def _follow(self, window: Window, follower: Callable[[Verdict | None], Verdict]) -> Verdict:
        """The revision right after the one that was followed: what came in between is looked at again, never undone."""
        tries = 0
        while True:
            before = self.latest(window)
            following = follower(before)
            try:
                return self._create(following, after=before)
            except ConflictError:
                tries += 1
                if tries == _TRIES:
                    raise

    def _create(self, verdict: Verdict, *, after: Verdict | None) -> Verdict:
        numbered = replace(verdict, revision=1 if after is None else after.revision + 1)
        data = json.dumps(numbered.to_json(), indent=1, sort_keys=True).encode()
        try:
            self._lake.create(numbered.key, data)
        except AlreadyExistsError:
            raise ConflictError(f"window {verdict.window.key} has a newer verdict than the one that was read") from None
        return numbered

    def _named(self, window: Window | None = None) -> dict[str, tuple[str, int]]:
        """Window and revision of every key, by time and revision."""
        listed = self._lake.list(VERDICTS_FOLDER if window is None else verdict_revisions(window.key))
        named = {key: found for key in listed if (found := verdict_of(key)) is not None}
        return dict(sorted(named.items(), key=lambda item: item[1]))

    def _newest(self) -> Iterator[str]:
        """Yield the key of the last revision of every window, back in time."""
        return reversed({window: key for key, (window, _) in self._named().items()}.values())

    def _read(self, key: str) -> Verdict:
        return _verdict(key, self._lake.read(key))


def _verdict(key: str, data: bytes) -> Verdict:
    try:
        return Verdict.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{key} is not a verdict record: {error}") from None
