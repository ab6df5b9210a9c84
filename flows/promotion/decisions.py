"""Decisions of an operator: request a promotion, promote now, roll back; and a report of each."""

import getpass
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from absa.errors import PermanentError, UnavailableError
from absa.ledger.history import former_champion
from absa.ledger.lifecycle import challenged, crowned, live_arms, promoted, withdrawn
from absa.ledger.record import LedgerRecord
from flows.platform.services import Services
from flows.promotion.promotion_request import PromotionRequest, answer
from flows.promotion.version_checks import must_serve, refuse_rejected


def requested_promotion(services: Services, versions: Sequence[str], *, again: bool) -> dict[str, Any]:
    """Return the promote deployment's parameters for versions, by default the challenger.

    Raises:
        PermanentError: the request is impossible or outdated, or the gate rejected a version.
    """
    records = services.ledger.follow()
    challenger = records[-1].state.challenger if records else None
    chosen = tuple(versions) or ((challenger,) if challenger else ())
    if not chosen:
        raise PermanentError("there is no challenger: train one, or name a version")
    revision = records[-1].number if records else 0
    found = answer(records, PromotionRequest(versions=chosen, revision=revision, again=again))
    if found.kind != "run":
        raise PermanentError(found.sentence)
    for version in chosen:
        with suppress(UnavailableError):  # the flow checks this again before it records the challenger
            refuse_rejected(services, version)
    return {"version": chosen[0], "others": list(chosen[1:]), "again": again, "revision": revision}


def promote_now(services: Services, version: str | None, *, reason: str) -> LedgerRecord:
    """Make a version champion by an operator's decision.

    Raises:
        PermanentError: the version is not in the ledger, or the gate rejected it.
        IntegrityError: the version does not serve in a fresh process.
    """
    head = services.head()
    chosen = version or head.state.challenger
    if chosen is None:
        raise PermanentError("there is no challenger: name a version")
    if chosen not in head.versions:
        raise PermanentError(
            f"version {chosen} is not in the ledger; expected one of: {', '.join(head.versions) or 'none'}"
        )
    refuse_rejected(services, chosen)
    serves = must_serve(services, chosen, head.versions[chosen])
    state = head.state if head.state.challenger == chosen else challenged(withdrawn(head.state), chosen)
    record = services.ledger.append(
        expected=head.number,
        actor=_person(),
        action="promote",
        reason=reason,
        state=promoted(state),
        evidence={"infra": serves},
    )
    services.project(record)
    return record


def roll_back(services: Services, *, reason: str) -> LedgerRecord:
    """End the running experiment; without one, restore the former champion.

    The former champion is not validated, because it was active before and routers keep its files.

    Raises:
        PermanentError: there is no former champion.
    """
    head = services.head()
    if head.state.plan is not None and head.state.plan.mode != "single":
        state = withdrawn(head.state)
    else:
        former = former_champion(services.ledger.follow())
        if former is None:
            raise PermanentError(f"there is no former champion: version {head.state.champion} is the first")
        state = crowned(former)
    record = services.ledger.append(
        expected=head.number, actor=_person(), action="rollback", reason=reason, state=state
    )
    services.project(record)
    return record


def ended_by(records: Sequence[LedgerRecord]) -> list[str]:
    """Report the experiment or challenger that the last record ended. Pure."""
    before, after = records[-2].state, records[-1].state
    arms = live_arms(before.plan)
    if before.plan is not None and arms:
        how = "in shadow" if before.plan.mode == "shadow" else "in an A/B test"
        shares = ", ".join(f"version {arm.version} ({arm.share:.0%} of the traffic)" for arm in arms)
        named = f"experiment {before.plan.experiment}" if before.plan.experiment else "the experiment"
        return [f"ended: {named} {how}, {shares}"]
    if before.challenger is not None and before.challenger != after.champion:
        return [f"ended: version {before.challenger} is no longer the challenger"]
    return []


def rollback_report(records: Sequence[LedgerRecord]) -> list[str]:
    """Report the changes of the rollback in the last record, and the changes that a second one would make. Pure."""
    before, record = records[-2].state, records[-1]
    champion = record.state.champion
    if champion == before.champion:
        first = f"version {champion} stays champion and has all traffic again"
    else:
        first = f"version {champion} is champion again, in place of version {before.champion}"
    former = former_champion(records)
    if former is None:
        second = f"a second rollback would change nothing: there is no champion before version {champion}"
    else:
        second = f"a second rollback would make version {former} champion in place of version {champion}"
    return [*ended_by(records), f"{first} (ledger record {record.number}); routers follow within seconds", second]


def _person() -> str:
    try:
        return f"person:{getpass.getuser()}"
    except (KeyError, OSError):
        return "person"
