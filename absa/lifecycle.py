"""How the state of the ledger moves: pure transitions from one whole state to the next."""

import secrets
from dataclasses import replace

from absa.adapters.ledger import LedgerRecord, State
from absa.errors import PermanentError
from absa.routing import CHALLENGER, CHAMPION, Arm, TrafficPlan, single


def crowned(version: str) -> State:
    """The very first champion: all traffic, no challenger."""
    return State(champion=version, challenger=None, plan=single(version))


def challenged(state: State, version: str) -> State:
    """A version becomes challenger; traffic stays as it is until somebody gives it a part.

    Raises:
        PermanentError: there is no champion to challenge, the version is the champion, or another is being tried.
    """
    if state.champion is None:
        raise PermanentError("there is no champion to challenge: train a first version")
    if version == state.champion:
        raise PermanentError(f"version {version} is the champion already")
    if state.plan is not None and state.plan.mode != "single" and state.challenger != version:
        raise PermanentError(f"version {state.challenger} is being tried: end that experiment first")
    return replace(state, challenger=version, plan=single(state.champion))


def experiment_name(state: State) -> str:
    """Name of the experiment between champion and challenger."""
    return f"v{state.champion}-vs-v{state.challenger}"


def _arms(state: State, share: float) -> tuple[Arm, ...]:
    if state.champion is None or state.challenger is None:
        raise PermanentError("an experiment needs a champion and a challenger")
    return (
        Arm(name=CHAMPION, version=state.champion, share=1.0 - share),
        Arm(name=CHALLENGER, version=state.challenger, share=share),
    )


def _salt(state: State, name: str) -> str:
    """One salt an experiment: a unit keeps its arm through the whole ramp."""
    if state.plan is not None and state.plan.experiment == name and state.plan.salt:
        return state.plan.salt
    return secrets.token_hex(4)


def shadowed(state: State) -> State:
    """The challenger scores every request unseen.

    Raises:
        PermanentError: there is no champion or no challenger.
    """
    name = experiment_name(state)
    return replace(
        state, plan=TrafficPlan(mode="shadow", experiment=name, salt=_salt(state, name), arms=_arms(state, 0.0))
    )


def ramped(state: State, share: float) -> State:
    """The challenger answers a share (0 to 1) of the units.

    Raises:
        PermanentError: there is no champion or no challenger.
    """
    name = experiment_name(state)
    return replace(
        state, plan=TrafficPlan(mode="ab", experiment=name, salt=_salt(state, name), arms=_arms(state, share))
    )


def promoted(state: State) -> State:
    """The challenger becomes champion and has all traffic.

    Raises:
        PermanentError: there is no challenger.
    """
    if state.challenger is None:
        raise PermanentError("there is no challenger to promote")
    return crowned(state.challenger)


def withdrawn(state: State) -> State:
    """The challenger is taken out; the champion has all traffic again.

    Raises:
        PermanentError: there is no champion.
    """
    if state.champion is None:
        raise PermanentError("there is no champion to return to")
    return crowned(state.champion)


def former_champion(records: list[LedgerRecord]) -> str | None:
    """The champion before the present one, or None where there never was another."""
    champions = [record.state.champion for record in records if record.state.champion is not None]
    return next((version for version in reversed(champions) if version != champions[-1]), None)
