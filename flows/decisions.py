"""What a person may decide at once, recorded in the ledger: promote now, roll back."""

import getpass

from absa.adapters.ledger import LedgerRecord
from absa.errors import PermanentError
from absa.lifecycle import challenged, crowned, former_champion, promoted, withdrawn
from flows.infra_check import must_serve
from flows.wiring import Services


def promote_now(services: Services, version: str | None, *, reason: str) -> LedgerRecord:
    """Make a version champion on a person's word.

    Raises:
        PermanentError: no such version, or one that the gate rejected.
        IntegrityError: it does not serve in a fresh process.
    """
    head = services.head()
    chosen = version or head.state.challenger
    if chosen is None:
        raise PermanentError("there is no challenger: name a version")
    if chosen not in head.versions:
        raise PermanentError(f"the ledger knows no version {chosen}; it knows {', '.join(head.versions) or 'none'}")
    if services.reader.version(chosen).tags.get("gate") == "REJECT":
        raise PermanentError(f"version {chosen} was rejected by the gate and is never served")
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
    """End the running experiment, or where none runs put the former champion back.

    Nothing is validated and nobody is asked: that version was in force before, and routers keep its files.

    Raises:
        PermanentError: there never was another champion.
    """
    head = services.head()
    if head.state.plan is not None and head.state.plan.mode != "single":
        state = withdrawn(head.state)
    else:
        former = former_champion(services.ledger.records())
        if former is None:
            raise PermanentError(f"there is no former champion: version {head.state.champion} is the first")
        state = crowned(former)
    record = services.ledger.append(
        expected=head.number, actor=_person(), action="rollback", reason=reason, state=state
    )
    services.project(record)
    return record


def _person() -> str:
    try:
        return f"person:{getpass.getuser()}"
    except (KeyError, OSError):
        return "person"
