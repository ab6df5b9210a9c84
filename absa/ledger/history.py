"""Queries of the ledger's history. Pure; records are ordered oldest first."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from absa.ledger.lifecycle import live_arms
from absa.ledger.record import LedgerRecord


def record_at(records: Sequence[LedgerRecord], time: datetime) -> LedgerRecord | None:
    """Return the record that was active at a time; None before the first record."""
    return next((record for record in reversed(records) if record.at <= time), None)


def champion_since(records: Sequence[LedgerRecord]) -> LedgerRecord | None:
    """Return the record that promoted the present champion; None without a champion."""
    since: LedgerRecord | None = None
    for record in reversed(records):
        if record.state.champion is None or record.state.champion != records[-1].state.champion:
            break
        since = record
    return since


def former_champion(records: Sequence[LedgerRecord]) -> str | None:
    """Return the champion that a rollback restores; None if there was no other champion.

    A version that a rollback removed does not count, so a second rollback restores an even earlier champion.
    """
    reigns: list[str] = []
    for record in records:
        champion = record.state.champion
        if champion is None or reigns[-1:] == [champion]:
            continue
        if record.action == "rollback" and reigns[-2:-1] == [champion]:
            reigns.pop()
        else:
            reigns.append(champion)
    return reigns[-2] if len(reigns) > 1 else None


def trial_end(records: Sequence[LedgerRecord], version: str) -> LedgerRecord | None:
    """Return the record that ended the trial of a version without its promotion.

    None if there is no such record, or if the version is tried now.
    """
    ended, tried = None, False
    for record in records:
        now = version == record.state.challenger or version in _tried(record)
        if tried and not now and record.state.champion != version:
            ended = record
        elif now:
            ended = None
        tried = now
    return ended


def last_drop(records: Sequence[LedgerRecord]) -> tuple[list[str], LedgerRecord] | None:
    """Return the versions that an experiment of the present champion dropped last, and the record of the drop.

    None if no experiment dropped a version, or if one of these versions is tried again.
    """
    since = champion_since(records)
    if since is None:
        return None
    found: tuple[list[str], LedgerRecord] | None = None
    for before, after in pairwise(record for record in records if record.number >= since.number):
        if left := _tried(before) - _tried(after):
            found = sorted(left), after
    return None if found is None or _tried(records[-1]) & set(found[0]) else found


def _tried(record: LedgerRecord) -> set[str]:
    return {arm.version for arm in live_arms(record.state.plan)}


def reign_end(records: Sequence[LedgerRecord], version: str) -> LedgerRecord | None:
    """Return the record that ended a version's time as champion; None if it never was champion, or is champion now."""
    ended, champion = None, None
    for record in records:
        if champion == version != record.state.champion:
            ended = record
        elif record.state.champion == version:
            ended = None
        champion = record.state.champion
    return ended


def steps_of(records: Sequence[LedgerRecord], version: str) -> list[LedgerRecord]:
    """Return the records whose state contains a version."""
    return [record for record in records if version in record.state.versions]
