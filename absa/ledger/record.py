"""Ledger record: JSON, hash, and verification of the chain. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

from absa.errors import IntegrityError, PermanentError
from absa.ledger.state import State
from absa.records.schema import SCHEMA_VERSION, iso, parse_iso
from absa.task import ABSA, TaskSpec

Action = Literal["register", "challenge", "traffic", "promote", "rollback"]
LEDGER_ACTIONS: Final = get_args(Action)
_NO_HASH: Final = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRecord:
    """Record of one change of the active versions.

    Attributes:
        number: position in the chain, from 1.
        at: time of the append.
        actor: flow, operator or service that appended the record.
        action: one of LEDGER_ACTIONS; records of earlier releases may have another action.
        reason: one sentence.
        state: the whole resulting state.
        versions: package digest of every version that is known so far.
        evidence_digest: digest of `evidence/<digest>.json`; None without evidence.
        previous_hash: hash of the record before; empty in the first record.
        hash: see `record_hash`.
        task: task of the home in the first record; None in later records, and in records of releases without tasks.
    """

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
    task: TaskSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the lake holds."""
        fields = asdict(self)
        del fields["task"]
        return {
            **fields,
            **({} if self.task is None else {"task": self.task.to_json()}),
            "schema_version": SCHEMA_VERSION,
            "at": iso(self.at),
            "state": self.state.to_json(),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes that the lake holds."""
        return canonical_json(self.to_json())


def record_hash(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record without its `hash`, as UTF-8 JSON with sorted keys and no spaces."""
    body = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(canonical_json(body)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return UTF-8 JSON with sorted keys and no spaces, so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def evidence_digest(evidence: Mapping[str, Any]) -> str:
    """Return the SHA-256 of evidence, which is its name in records and in the lake."""
    return hashlib.sha256(canonical_json(evidence)).hexdigest()


def next_record(
    head: LedgerRecord | None,
    *,
    at: datetime,
    actor: str,
    action: Action,
    reason: str,
    state: State,
    versions: Mapping[str, str],
    evidence_digest: str | None,
    task: TaskSpec = ABSA,
) -> LedgerRecord:
    """Return the record that follows a head, with its hash. The digests of versions in the head are copied.

    Only the first record has the task.

    Raises:
        PermanentError: the action is unknown, or the state names a version without a digest.
    """
    if action not in LEDGER_ACTIONS:
        raise PermanentError(f"unknown ledger action: expected one of {', '.join(LEDGER_ACTIONS)}, got {action!r}")
    known = {**(head.versions if head else {}), **versions}
    if missing := sorted(state.versions - known.keys()):
        raise PermanentError(f"the ledger has no digest for version {', '.join(missing)}: register it first")
    record = LedgerRecord(
        number=(head.number if head else 0) + 1,
        at=at,
        actor=actor,
        action=action,
        reason=reason,
        state=state,
        versions={version: known[version] for version in sorted(known)},
        evidence_digest=evidence_digest,
        previous_hash=head.hash if head else _NO_HASH,
        task=None if head else task,
    )
    return replace(record, hash=record_hash(record.to_json()))


def parse_record(number: int, data: bytes) -> LedgerRecord:
    """Read the record with this number from its bytes. Unknown fields are ignored.

    Raises:
        IntegrityError: the bytes are not a ledger record.
    """
    raw = _object(number, data)
    try:
        return LedgerRecord(
            number=int(raw["number"]),
            at=parse_iso(raw["at"]),
            actor=raw["actor"],
            action=raw["action"],
            reason=raw["reason"],
            state=State.from_json(raw["state"]),
            versions=dict(raw.get("versions", {})),
            evidence_digest=raw.get("evidence_digest"),
            previous_hash=raw["previous_hash"],
            hash=raw["hash"],
            task=TaskSpec.from_json(raw["task"]) if "task" in raw else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"ledger record {number} cannot be read: {error}") from error


def chain_problems(stored: Sequence[tuple[int, bytes]], *, anchor: tuple[int, str] | None = None) -> list[str]:
    """Return a sentence for each broken hash, link or number; empty if the chain is complete.

    Args:
        stored: number and bytes of every record, in order of their numbers.
        anchor: number and hash of the head in the registry's tags; they show if the last records were removed.
    """
    problems: list[str] = []
    if [number for number, _ in stored] != list(range(1, len(stored) + 1)):
        problems.append("the ledger's numbers have a gap")
    previous_hash = _NO_HASH
    hashes: dict[int, str] = {}
    for number, data in stored:
        try:
            raw = _object(number, data)
            parse_record(number, data)
        except IntegrityError as error:
            problems.append(str(error))
            continue
        if raw["hash"] != record_hash(raw):
            problems.append(f"record {number} was changed after it was written")
        if raw["previous_hash"] != previous_hash:
            problems.append(f"record {number} does not follow record {number - 1}")
        if raw["number"] != number:
            problems.append(f"record {number} carries another number")
        hashes[number] = previous_hash = str(raw["hash"])
    if anchor is not None and anchor[1] not in {hashes.get(anchor[0]), hashes.get(anchor[0] + 1)}:  # half projected
        problems.append(f"the registry remembers another record {anchor[0]} than the ledger has: the tail was cut")
    return problems


def _object(number: int, data: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"ledger record {number} is not JSON") from error
    if not isinstance(raw, dict):
        raise IntegrityError(f"ledger record {number} is not a JSON object")
    return raw
