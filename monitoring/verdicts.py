"""Store of verdict records: create-only revisions in the lake.

The record is the durable trigger: only the record holds the state of a retraining (due, running, completed or given
up). Of two concurrent writers one gets ConflictError.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from absa.errors import AlreadyExistsError, ConflictError, IntegrityError
from absa.records.lake import Lake, read_concurrently
from absa.records.layout import VERDICTS_FOLDER, verdict_of, verdict_revisions
from absa.records.schema import Window, utc_now
from absa.records.verdict import Attempt, AttemptState, Verdict

_TRIES: Final = 5


class VerdictStore:
    """Verdicts of a lake. Records are never overwritten, so a store reads each one once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: dict[str, Verdict] = {}

    def record(self, verdict: Verdict) -> Verdict:
        """Record a verdict as the window's next revision, with the attempts recorded before.

        Raises:
            ConflictError: other writers kept recording this window concurrently.
        """

        def joined(before: Verdict | None) -> Verdict:
            known = {} if before is None else {attempt.number: attempt for attempt in before.attempts}
            known |= {attempt.number: attempt for attempt in verdict.attempts}
            return replace(verdict, attempts=tuple(known[number] for number in sorted(known)))

        return self._follow(verdict.window, joined)

    def latest(self, window: Window | None = None) -> Verdict | None:
        """Return the last revision of a window, by default of the newest one; None if there is no verdict."""
        keys = list(self._named(window))
        return self._read(keys[-1]) if keys else None

    def revisions(self, window: Window) -> list[Verdict]:
        """Return every revision of a window, the oldest first."""
        return [self._read(key) for key in self._named(window)]

    def newest_first(self) -> Iterator[Verdict]:
        """Yield the last revision of every window, the newest first. A record is read when it is yielded."""
        return (self._read(key) for key in self._newest())

    def history(self, *, limit: int | None = None) -> list[Verdict]:
        """Return the last revision of the newest `limit` windows (None: of all), the newest last."""
        keys = list(islice(self._newest(), limit))[::-1]
        new = [key for key in keys if key not in self._known]
        for key, data in zip(new, read_concurrently(self._lake, new), strict=True):
            self._known[key] = _verdict(self._lake, key, data)
        return [self._known[key] for key in keys]

    def windows(self) -> list[Window]:
        """Return every window that has a verdict, the newest last. Reads no record."""
        return [Window.parse(name) for name in dict.fromkeys(window for window, _ in self._named().values())]

    def begin_attempt(self, verdict: Verdict, *, flow_run_id: str | None = None, at: datetime | None = None) -> Verdict:
        """Record the start of the next attempt.

        Call this method before the run is created, so that a caller who loses the race starts no run.

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
        """Record the result of an attempt; the state `started` only adds the id of the attempt's run.

        Raises:
            ConflictError: the window has no such attempt, or other writers kept recording it concurrently.
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
        """Record the address of a window's report.

        Raises:
            ConflictError: the window has no verdict, or other writers kept recording it concurrently.
        """
        return self._amend(window, lambda current: replace(current, report_uri=report_uri))

    def _amend(self, window: Window, change: Callable[[Verdict], Verdict]) -> Verdict:
        def changed(before: Verdict | None) -> Verdict:
            if before is None:
                raise ConflictError(f"window {window.key} has no verdict")
            return change(before)

        return self._follow(window, changed)

    def _follow(self, window: Window, follower: Callable[[Verdict | None], Verdict]) -> Verdict:
        """Write the revision after the latest; repeat if another writer was first."""
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
        """Return window and revision of every key, by time and revision."""
        listed = self._lake.list(VERDICTS_FOLDER if window is None else verdict_revisions(window.key))
        named = {key: found for key in listed if (found := verdict_of(key)) is not None}
        return dict(sorted(named.items(), key=lambda item: item[1]))

    def _newest(self) -> Iterator[str]:
        """Yield the key of the last revision of every window, the newest first."""
        return reversed({window: key for key, (window, _) in self._named().items()}.values())

    def _read(self, key: str) -> Verdict:
        if key not in self._known:
            self._known[key] = _verdict(self._lake, key, self._lake.read(key))
        return self._known[key]


def _verdict(lake: Lake, key: str, data: bytes) -> Verdict:
    try:
        return Verdict.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{lake.url(key)} is not a verdict record ({type(error).__name__}): restore it from a backup, or delete it"
        ) from error
