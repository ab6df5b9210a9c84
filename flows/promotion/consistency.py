"""Check of the ledger's chain against its anchor in the registry, MLflow's aliases and the running router."""

from collections.abc import Mapping, Sequence

from absa.errors import IntegrityError, NotFoundError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import CHALLENGER, CHAMPION
from flows.platform.host.router_health import Ask, asked, ledger_problem
from flows.platform.services import Services


def inconsistencies(services: Services, *, ask: Ask = asked) -> list[str]:
    """Return a sentence for each inconsistency; repairs nothing.

    Removed last records are found by the ledger's anchor in MLflow, and by a running router, which has read them.

    Args:
        services: ports.
        ask: sends a request to the router.
    """
    try:
        anchor, aliases = services.registry.anchor(), services.registry.aliases()
    except (UnavailableError, NotFoundError):
        anchor, aliases = None, None
    lost = ledger_problem(services.settings, ask=ask)
    problems = [*services.ledger.verify(anchor=anchor), *([] if lost is None else [lost])]
    try:
        records = services.ledger.follow()
    except IntegrityError:  # it is listed with the problems
        return problems
    return [*problems, *contradictions(records, aliases)]


def contradictions(records: Sequence[LedgerRecord], aliases: Mapping[str, str] | None) -> list[str]:
    """Return contradictions within the head, and between head and MLflow's aliases (None: unknown). Pure."""
    if not records:
        return []
    state, number = records[-1].state, records[-1].number
    found = []
    if state.plan is not None and state.plan.champion.version != state.champion:
        found.append(f"record {number}: the plan's champion is {state.plan.champion.version}, not {state.champion}")
    tried = {arm.version for arm in state.plan.challengers} if state.plan is not None else set()
    if tried and state.challenger not in tried:
        found.append(f"record {number}: challenger {state.challenger} is not among the plan's arms")
    for alias, wanted in ((CHAMPION, state.champion), (CHALLENGER, state.challenger)):
        if aliases is not None and aliases.get(alias) != wanted:
            found.append(
                f"alias {alias} in MLflow: expected {wanted or 'none'} as in the ledger, got "
                f"{aliases.get(alias) or 'none'}; `evergreen ledger project` sets it"
            )
    return found
