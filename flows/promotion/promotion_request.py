"""Requests for a promotion: may run, served already, or refused. Pure.

A request has the number of the ledger record at which it was made. The same decision is taken when the request is made
and when its run starts, which may be much later, because promotions run one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from absa.ledger.history import champion_since, reign_end, trial_end
from absa.ledger.lifecycle import live_arms
from absa.ledger.record import LedgerRecord


@dataclass(frozen=True, kw_only=True)
class PromotionRequest:
    """Versions to promote, the challenger first.

    Attributes:
        versions: the challenger, and versions that are tried beside it.
        revision: number of the ledger's head at the request; None: unknown.
        again: True if a version that was rolled back or replaced may be tried again.
    """

    versions: tuple[str, ...]
    revision: int | None
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Result of a request. `record` is the ledger record that served it, if any."""

    kind: Literal["run", "served", "refused"]
    sentence: str = ""
    record: LedgerRecord | None = None


def answer(records: Sequence[LedgerRecord], request: PromotionRequest) -> Answer:
    """Decide about a request from the whole ledger, oldest record first."""
    since = champion_since(records)
    if since is None:
        refusal: str | None = "there is no champion to challenge: `evergreen train FILE` makes the first version"
    elif (refusal := _misnamed(records[-1], request.versions)) is None and not _is_tried(records[-1], request):
        if (served := _served(records, since, request)) is not None:
            return Answer(kind="served", sentence=served.reason, record=served)
        refusal = _refusal(records, since, request)
    return Answer(kind="run") if refusal is None else Answer(kind="refused", sentence=refusal)


def _is_tried(head: LedgerRecord, request: PromotionRequest) -> bool:
    """Return True if the ledger has the request's challenger or its experiment runs, so that its run continues."""
    tried = {arm.version for arm in live_arms(head.state.plan)}
    return request.versions[0] == head.state.challenger or bool(tried & set(request.versions))


def _misnamed(head: LedgerRecord, versions: Sequence[str]) -> str | None:
    if twice := [version for version in versions if versions.count(version) > 1]:
        return f"version {twice[0]} is named twice: name each version once"
    if unknown := [version for version in versions if version not in head.versions]:
        known = ", ".join(sorted(head.versions, key=_order))
        return f"version {unknown[0]} is not in the ledger; expected one of: {known}"
    return None


def _refusal(records: Sequence[LedgerRecord], since: LedgerRecord, request: PromotionRequest) -> str | None:
    state, first = records[-1].state, request.versions[0]
    if state.champion in request.versions:
        return f"version {state.champion} is the champion already"
    if request.revision is not None and since.number > request.revision:
        return (
            f"the promotion of version {first} is outdated: it was requested at ledger record {request.revision}, and "
            f"version {state.champion} became champion in record {since.number}. Request it again if it is still wanted"
        )
    if tried := [arm.version for arm in live_arms(state.plan)]:
        return (
            f"version {', '.join(tried)} is being tried: wait until that experiment ends, or end it with "
            "`evergreen rollback`"
        )
    return None if request.again else _rolled_back(records, request.versions)


def _served(records: Sequence[LedgerRecord], since: LedgerRecord, request: PromotionRequest) -> LedgerRecord | None:
    """Return the record that ended the request's own promotion, if its run was killed at its end."""
    if records[-1].state.champion in request.versions:
        return since if request.revision is None or since.number > request.revision else None
    ended = trial_end(records, request.versions[0])
    if ended is None:
        return None
    if request.revision is None:
        return None if request.again else ended
    return ended if ended.number > request.revision else None


def _rolled_back(records: Sequence[LedgerRecord], versions: Sequence[str]) -> str | None:
    for version in versions:
        if (ended := trial_end(records, version)) is not None:
            what = f"version {version} was rolled back in ledger record {ended.number}"
            return f"{what} ({ended.reason}): --again tries it again"
        if (ended := reign_end(records, version)) is not None:
            what = f"version {version} was champion until version {ended.state.champion} replaced it in ledger record"
            return f"{what} {ended.number}: --again tries it again, --now makes it champion at once"
    return None


def _order(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else 0, version)
