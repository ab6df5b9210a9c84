"""Store of ledger records in the lake. Creating the next record is the commit; readers follow new records."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any

from absa.errors import AlreadyExistsError, ConflictError, NotFoundError
from absa.ledger.record import (
    Action,
    LedgerRecord,
    canonical_json,
    chain_problems,
    evidence_digest,
    next_record,
    parse_record,
)
from absa.ledger.state import State
from absa.records.lake import Lake, read_concurrently
from absa.records.layout import LEDGER_FOLDER, evidence_key, ledger_key, ledger_number
from absa.records.schema import utc_now
from absa.task import ABSA, TaskSpec


class Ledger:
    """Ledger in the lake. Of two concurrent appends after the same head, one gets a ConflictError.

    Threads may share an object. After the first call of `follow`, it keeps the history in memory.

    Args:
        lake: lake of the records.
        clock: returns the time of a new record.
        task: task of the home, for the first record.
    """

    def __init__(self, lake: Lake, *, clock: Callable[[], datetime] = utc_now, task: TaskSpec = ABSA) -> None:
        self._lake = lake
        self._clock = clock
        self._task = task
        self._seen = 0  # number of the newest record that a call has read
        self._followed: tuple[LedgerRecord, ...] = ()
        self._lock = Lock()

    def follow(self) -> tuple[LedgerRecord, ...]:
        """Return all records, oldest first, as they are in the lake at one moment.

        The first call reads the whole history. A later call reads only new records; without new records it makes one
        request that checks if a key exists.

        Raises:
            IntegrityError: a record cannot be read.
            UnavailableError: the lake is unavailable.
        """
        with self._lock:
            if self._followed:
                new = self._after(self._followed[-1].number)
            else:
                new = (parse_record(*each) for each in self._stored())
            known = self._followed[-1].versions if self._followed else {}
            if added := tuple(_with_shared_digests(new, known)):
                self._followed += added
            return self._followed

    def head(self, *, after: int = 0) -> LedgerRecord | None:
        """Return the active record without the history; None if the ledger is empty.

        The first call lists the whole ledger. Without new records, a later call makes two requests that check if a key
        exists, and one read.

        Args:
            after: number of an existing record, with which the first call needs no listing; 0: unknown.

        Raises:
            NotFoundError: the ledger has no record with the number `after`.
            IntegrityError: the record cannot be read.
            UnavailableError: the lake is unavailable.
        """
        number = after or self._seen
        if number == 0 or (after == 0 and not self._lake.exists(ledger_key(number))):  # an older ledger was restored
            number = max(self._numbers(), default=0)
        while number and self._lake.exists(ledger_key(number + 1)):
            number += 1
        self._seen = number
        return self._read(number) if number else None

    def append(
        self,
        *,
        expected: int,
        actor: str,
        action: Action,
        reason: str,
        state: State,
        versions: Mapping[str, str] | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> LedgerRecord:
        """Append a record with a new state after the head that the caller has read.

        Args:
            expected: number of this head; 0 if the ledger was empty.
            actor: flow, operator or service.
            action: one of LEDGER_ACTIONS.
            reason: one sentence.
            state: the whole resulting state.
            versions: package digests of new versions; the digests in the head are copied.
            evidence: basis of the decision, kept under `evidence/<digest>.json`.

        Raises:
            ConflictError: the ledger has another head now.
            PermanentError: the action is unknown, or the state names a version without a digest.
        """
        head = self.head()
        if (head.number if head else 0) != expected:
            raise self._conflict(f"the ledger is at record {head.number if head else 0}, expected {expected}")
        if self._was_replaced():
            raise self._conflict(f"ledger record {expected} is another one than before")
        body = None if evidence is None else canonical_json(evidence)
        digest = None if evidence is None else evidence_digest(evidence)
        record = next_record(
            head,
            at=self._clock(),
            actor=actor,
            action=action,
            reason=reason,
            state=state,
            versions=versions or {},
            evidence_digest=digest,
            task=self._task,
        )
        if body is not None and digest is not None:
            self._lake.write(evidence_key(digest), body)
        try:
            self._lake.create(ledger_key(record.number), record.to_bytes())
        except AlreadyExistsError:
            raise self._conflict(f"another writer appended ledger record {record.number} first") from None
        return record

    def task(self) -> TaskSpec | None:
        """Return the task of the home from the first record; None if the ledger is empty.

        Raises:
            IntegrityError: the record cannot be read.
            UnavailableError: the lake is unavailable.
        """
        try:
            return self._read(1).task or ABSA
        except NotFoundError:
            return None

    def evidence(self, record: LedgerRecord) -> dict[str, Any]:
        """Return the evidence of a record; empty if the record has none or the lake has lost it.

        Raises:
            UnavailableError: the lake is unavailable.
        """
        if record.evidence_digest is None:
            return {}
        try:
            found = json.loads(self._lake.read(evidence_key(record.evidence_digest)))
        except (NotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def verify(self, *, anchor: tuple[int, str] | None = None) -> list[str]:
        """Read the whole ledger from the lake and return its problems; see `chain_problems`."""
        return chain_problems(self._stored(), anchor=anchor)

    def _conflict(self, what: str) -> ConflictError:
        with self._lock:
            if self._was_replaced():
                self._followed = ()
        return ConflictError(f"{what}: look again")

    def _was_replaced(self) -> bool:
        """Return True if the lake no longer has the last record that was read: a backup was restored since."""
        if not self._followed:
            return False
        last = self._followed[-1]
        try:
            return self._read(last.number).hash != last.hash
        except NotFoundError:
            return True

    def _numbers(self) -> list[int]:
        return sorted(n for key in self._lake.list(LEDGER_FOLDER) if (n := ledger_number(key)) is not None)

    def _stored(self) -> list[tuple[int, bytes]]:
        numbers = self._numbers()
        return list(zip(numbers, read_concurrently(self._lake, [ledger_key(n) for n in numbers]), strict=True))

    def _read(self, number: int) -> LedgerRecord:
        return parse_record(number, self._lake.read(ledger_key(number)))

    def _after(self, number: int) -> Iterable[LedgerRecord]:
        while self._lake.exists(ledger_key(number + 1)):
            number += 1
            yield self._read(number)


def _with_shared_digests(records: Iterable[LedgerRecord], known: dict[str, str]) -> Iterator[LedgerRecord]:
    """Yield records; equal `versions` share one dict to save memory, because each record has all digests."""
    for record in records:
        if record.versions != known:
            known = record.versions
        yield replace(record, versions=known)
