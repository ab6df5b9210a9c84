"""Lifecycle of versions: functions that return the next state. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from secrets import token_hex

from absa.errors import PermanentError
from absa.ledger.routing import CHALLENGER, CHAMPION, Arm, Mode, TrafficPlan, single
from absa.ledger.state import State


def crowned(version: str) -> State:
    """Return a state in which a version is champion and has all traffic."""
    return State(champion=version, challenger=None, plan=single(version))


def challenged(state: State, version: str) -> State:
    """Return the state with a challenger; the champion keeps all traffic.

    Raises:
        PermanentError: there is no champion, the version is the champion, or an experiment of another version runs.
    """
    if state.champion is None:
        raise PermanentError("there is no champion to challenge: train a first version")
    if version == state.champion:
        raise PermanentError(f"version {version} is the champion already")
    if state.plan is not None and state.plan.mode != "single" and state.challenger != version:
        raise PermanentError(f"version {state.challenger} is being tried: end that experiment first")
    return replace(state, challenger=version, plan=single(state.champion))


def rerouted(state: State, plan: TrafficPlan) -> State:
    """Return the state with an operator's plan. A plan cannot change the champion.

    Raises:
        PermanentError: the plan's first arm is another version than the champion.
    """
    if plan.champion.version != state.champion:
        raise PermanentError(
            f"the first arm must be the champion, version {state.champion}; use promote or rollback to change it"
        )
    challenger = plan.challengers[0].version if plan.challengers else state.challenger
    return State(champion=state.champion, challenger=challenger, plan=plan)


def experiment_name(champion: str, challengers: Sequence[str]) -> str:
    """Return the name of the experiment between a champion and its challengers."""
    return f"v{champion}-vs-" + "-".join(f"v{version}" for version in challengers)


def live_arms(plan: TrafficPlan | None) -> tuple[Arm, ...]:
    """Return the arms of the challengers that are still tried.

    In an A/B test, an arm with share 0 was dropped; its band goes to no other challenger.
    """
    if plan is None or plan.mode == "single":
        return ()
    return tuple(arm for arm in plan.challengers if arm.share > 0 or plan.mode == "shadow")


def _name_of(state: State, challengers: Sequence[str]) -> str:
    """Return the name of the running experiment; a default name if the operator's plan has none."""
    named = state.plan.experiment if state.plan is not None else None
    return named or experiment_name(str(state.champion), challengers)


def _with_shares(state: State, mode: Mode, shares: Mapping[str, float], *, experiment: str) -> State:
    """Return the state with an experiment's plan. The salt is kept, so that a unit keeps its arm during the ramp."""
    if state.champion is None:
        raise PermanentError("an experiment needs a champion and a challenger")
    before = state.plan
    salt = before.salt if before is not None and before.experiment == experiment and before.salt else token_hex(4)
    names = [CHALLENGER, *(f"{CHALLENGER}-{number}" for number in range(2, len(shares) + 1))]
    if before is not None and before.experiment == experiment:
        names = [arm.name for version in shares for arm in before.challengers if arm.version == version]
    arms = (
        Arm(name=CHAMPION, version=state.champion, share=1.0 - sum(shares.values())),
        *(Arm(name=name, version=v, share=share) for name, (v, share) in zip(names, shares.items(), strict=True)),
    )
    plan = TrafficPlan(mode=mode, experiment=experiment, salt=salt, arms=arms)
    return replace(state, challenger=live_arms(plan)[0].version, plan=plan)


def shadowed(state: State, others: Sequence[str] = ()) -> State:
    """Return the state in which the challenger, and other versions, score all requests without answering them.

    Raises:
        PermanentError: champion or challenger is missing, or a version is named twice.
    """
    if state.champion is None or state.challenger is None:
        raise PermanentError("an experiment needs a champion and a challenger")
    challengers = (state.challenger, *others)
    if len({state.champion, *challengers}) != len(challengers) + 1:
        raise PermanentError(f"an experiment needs different versions, got {', '.join((state.champion, *challengers))}")
    name = experiment_name(state.champion, challengers)
    return _with_shares(state, "shadow", dict.fromkeys(challengers, 0.0), experiment=name)


def ramped(state: State, share: float) -> State:
    """Return the state in which each live challenger has a share (0 to 1) of the units, at most the champion's share.

    Raises:
        PermanentError: champion or challenger is missing.
    """
    arms = live_arms(state.plan)
    if state.champion is None or state.challenger is None:
        raise PermanentError("an experiment needs a champion and a challenger")
    if state.plan is None or not arms:
        name = experiment_name(state.champion, [state.challenger])
        return _with_shares(state, "ab", {state.challenger: share}, experiment=name)
    fair = min(share, 1.0 / (len(state.plan.challengers) + 1))
    live = {arm.version for arm in arms}
    shares = {arm.version: fair if arm.version in live else 0.0 for arm in state.plan.challengers}
    return _with_shares(state, "ab", shares, experiment=_name_of(state, tuple(shares)))


def dropped(state: State, version: str) -> State:
    """Return the state without one challenger; its units go to the champion. The last drop ends the experiment."""
    left = [arm for arm in live_arms(state.plan) if arm.version != version]
    if state.plan is None or not left:
        return withdrawn(state)
    if state.plan.mode == "shadow":
        shares = {arm.version: 0.0 for arm in left}
    else:
        shares = {arm.version: 0.0 if arm.version == version else arm.share for arm in state.plan.challengers}
    return _with_shares(state, state.plan.mode, shares, experiment=_name_of(state, tuple(shares)))


def promoted(state: State, version: str | None = None) -> State:
    """Return the state in which a challenger (by default the first) is champion with all traffic.

    Raises:
        PermanentError: there is no challenger.
    """
    winner = version or state.challenger
    if winner is None:
        raise PermanentError("there is no challenger to promote")
    return crowned(winner)


def withdrawn(state: State) -> State:
    """Return the state without challengers; the champion has all traffic again.

    Raises:
        PermanentError: there is no champion.
    """
    if state.champion is None:
        raise PermanentError("there is no champion to return to")
    return crowned(state.champion)
