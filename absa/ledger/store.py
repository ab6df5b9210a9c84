"""The ledger: what is in force, as an append-only, hash-chained list of records in the lake."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

from absa.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError, PermanentError
from absa.ledger.routing import TrafficPlan
from absa.records.lake import Lake
from absa.records.layout import LEDGER_FOLDER, evidence_key, ledger_key, ledger_number
from absa.records.schema import SCHEMA_VERSION, iso, parse_iso, utc_now

Action = Literal["register", "challenge", "traffic", "promote", "rollback", "retire"]
ACTIONS: Final = get_args(Action)
_NO_HASH: Final = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The whole of what is in force after a record. Versions are registry version numbers as text."""

    champion: str | None = None
    challenger: str | None = None
    plan: TrafficPlan | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as contracts write it."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "plan": self.plan.to_json() if self.plan else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "State":
        """Read a state; unknown fields are ignored."""
        plan = data.get("plan")
        return cls(
            champion=data.get("champion"),
            challenger=data.get("challenger"),
            plan=TrafficPlan.from_json(plan) if plan else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRecord:
    """One step in a model's life. `versions` maps every version that the state names to its package digest."""

    number: int
    at: datetime
    actor: str
    action: Action
    reason: str
    state: State
    versions: dict[str, str] = field(default_factory=dict)
    evidence_digest: str | None = None
    previous_hash: str = _NO_HASH
    hash: str = _NO_HASH

    def to_json(self) -> dict[str, Any]:
        """The record as it lies in the lake."""
        return {
            **asdict(self),
            "schema_version": SCHEMA_VERSION,
            "at": iso(self.at),
            "state": self.state.to_json(),
        }

    def sealed(self) -> "LedgerRecord":
        """The same record with its own hash."""
        return replace(self, hash=record_hash(self.to_json()))


def record_hash(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its `hash`, as UTF-8 JSON with sorted keys and no spaces."""
    body = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(canonical_json(body)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Ledger:
    """Reads and appends records. Of two that append after the same head, one gets a ConflictError.

    Args:
        lake: where the records lie.
        clock: the time that a new record carries.
    """

    def __init__(self, lake: Lake, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._lake = lake
        self._clock = clock

    def _numbers(self) -> list[int]:
        return sorted(n for key in self._lake.list(LEDGER_FOLDER) if (n := ledger_number(key)) is not None)

    def _raw(self, number: int) -> dict[str, Any]:
        try:
            data: dict[str, Any] = json.loads(self._lake.read(ledger_key(number)))
        except ValueError as error:
            raise IntegrityError(f"ledger record {number} is not JSON") from error
        return data

    def read(self, number: int) -> LedgerRecord:
        """One record.

        Raises:
            NotFoundError: there is none with this number.
            IntegrityError: it is not a ledger record.
        """
        data = self._raw(number)
        try:
            return LedgerRecord(
                number=int(data["number"]),
                at=parse_iso(data["at"]),
                actor=data["actor"],
                action=data["action"],
                reason=data["reason"],
                state=State.from_json(data["state"]),
                versions=dict(data.get("versions", {})),
                evidence_digest=data.get("evidence_digest"),
                previous_hash=data["previous_hash"],
                hash=data["hash"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"ledger record {number} cannot be read: {error}") from error

    def head(self, *, after: int = 0) -> LedgerRecord | None:
        """The record in force, or None where nothing was ever appended.

        Args:
            after: number of a record that is known to exist. Looking on from there costs one read where nothing moved,
                not a listing of the whole ledger.
        """
        if after:
            number = after
            while self._lake.exists(ledger_key(number + 1)):
                number += 1
            return self.read(number)
        numbers = self._numbers()
        return self.read(numbers[-1]) if numbers else None

    def records(self) -> list[LedgerRecord]:
        """Every record, oldest first."""
        return [self.read(number) for number in self._numbers()]

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
        """Commit a new state on top of the head that the caller saw.

        Args:
            expected: number of that head; 0 where there was none.
            actor: who does it (a flow, a person, a service).
            action: one of ACTIONS.
            reason: one sentence.
            state: the whole resulting state.
            versions: digests of versions that the record adds; those that the head knew are carried on.
            evidence: what the decision rests on; kept under `evidence/<digest>.json`, its digest in the record.

        Raises:
            ConflictError: the head is not the expected one any more.
            PermanentError: an unknown action, or a state that names a version without a digest.
        """
        if action not in ACTIONS:
            raise PermanentError(f"action must be one of {', '.join(ACTIONS)}, got {action!r}")
        head = self.head()
        if (head.number if head else 0) != expected:
            raise ConflictError(f"the ledger stands at {head.number if head else 0}, not at {expected}: look again")
        known = {**(head.versions if head else {}), **(versions or {})}
        named = {state.champion, state.challenger, *(state.plan.versions if state.plan else ())} - {None}
        missing = sorted(str(version) for version in named if version not in known)
        if missing:
            raise PermanentError(f"the ledger has no digest for version {', '.join(missing)}")
        record = LedgerRecord(
            number=expected + 1,
            at=self._clock(),
            actor=actor,
            action=action,
            reason=reason,
            state=state,
            versions={version: known[version] for version in sorted(known)},
            evidence_digest=self._keep(evidence),
            previous_hash=head.hash if head else _NO_HASH,
        ).sealed()
        try:
            self._lake.create(ledger_key(record.number), canonical_json(record.to_json()))
        except AlreadyExistsError:
            raise ConflictError(f"someone else wrote ledger record {record.number} first: look again") from None
        return record

    def _keep(self, evidence: Mapping[str, Any] | None) -> str | None:
        if evidence is None:
            return None
        body = canonical_json(evidence)
        digest = hashlib.sha256(body).hexdigest()
        self._lake.write(evidence_key(digest), body)
        return digest

    def at(self, time: datetime) -> LedgerRecord | None:
        """The record that was in force at a time, or None before the first."""
        past = [record for record in self.records() if record.at <= time]
        return past[-1] if past else None

    def verify(self, *, anchor: tuple[int, str] | None = None) -> list[str]:
        """Sentences about what is wrong; empty where every hash and link holds.

        Args:
            anchor: number and hash of the head as the registry's tags remember it: finds a tail that was cut off.
        """
        problems: list[str] = []
        previous_hash = _NO_HASH
        numbers = self._numbers()
        if numbers != list(range(1, len(numbers) + 1)):
            problems.append("the ledger's numbers have a gap")
        hashes: dict[int, str] = {}
        for number in numbers:
            try:
                raw = self._raw(number)
                self.read(number)
            except (IntegrityError, NotFoundError) as error:
                problems.append(str(error))
                continue
            if raw.get("hash") != record_hash(raw):
                problems.append(f"record {number} was changed after it was written")
            if raw.get("previous_hash") != previous_hash:
                problems.append(f"record {number} does not follow record {number - 1}")
            if raw.get("number") != number:
                problems.append(f"record {number} carries another number")
            previous_hash = str(raw.get("hash"))
            hashes[number] = previous_hash
        if anchor is not None and anchor[1] not in {hashes.get(anchor[0]), hashes.get(anchor[0] + 1)}:  # half projected
            problems.append(
                f"the registry remembers record {anchor[0]}, which is not there as it was: the tail was cut"
            )
        return problems
