"""Assignment: equal unit, equal arm; raising a share moves nobody off the challenger."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.ledger.routing import Arm, TrafficPlan, assign, bucket, single

units = st.text(min_size=1, max_size=40)


def ab(*shares: float, salt: str = "9f2c") -> TrafficPlan:
    names = ["challenger", *(f"challenger-{n}" for n in range(2, len(shares) + 1))]
    challengers = tuple(
        Arm(name=name, version=str(8 + n), share=share)
        for n, (name, share) in enumerate(zip(names, shares, strict=False))
    )
    champion = Arm(name="champion", version="7", share=1.0 - sum(shares))
    return TrafficPlan(mode="ab", experiment="e", salt=salt, arms=(champion, *challengers))


@given(units, st.text(max_size=10))
def test_the_bucket_is_the_contracts_formula(unit: str, salt: str) -> None:
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    assert 0.0 <= bucket(unit, salt) < 1.0
    assert bucket(unit, salt) == pytest.approx(int.from_bytes(digest[:8], "big") / 2**64)


@given(units, st.floats(0, 1), st.floats(0, 1))
def test_raising_a_share_moves_nobody_off_the_challenger(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if assign(ab(low), unit).name == "challenger":
        assert assign(ab(high), unit).name == "challenger"


@given(units, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_raised_share_leaves_other_challengers_units(unit: str, first: float, second: float, raised: float) -> None:
    before, after = assign(ab(first, second), unit), assign(ab(first, max(second, raised)), unit)
    assert before.name == after.name or after.name == "challenger-2"


def test_shares_are_respected() -> None:
    plan = ab(0.25)
    served = sum(assign(plan, f"unit-{n}").name == "challenger" for n in range(20_000))
    assert abs(served / 20_000 - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_single_and_shadow_mode_answer_by_champion() -> None:
    shadow = TrafficPlan(
        mode="shadow",
        experiment="e",
        salt="s",
        arms=(Arm(name="champion", version="7", share=1.0), Arm(name="challenger", version="8", share=0.0)),
    )
    assert {assign(plan, str(n)).version for plan in (shadow, single("7")) for n in range(100)} == {"7"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mode": "canary"}, "mode must be"),
        ({"arms": ()}, "first arm"),
        ({"arms": (Arm(name="champion", version="7", share=0.9),)}, "sum to 1"),
        ({"arms": (Arm(name="champion", version="7", share=1.5),)}, "0 to 1"),
    ],
)
def test_a_wrong_plan_is_refused_with_a_sentence(change: dict[str, object], sentence: str) -> None:
    fields: dict[str, object] = {"mode": "single", "experiment": None, "salt": "", "arms": single("7").arms, **change}
    with pytest.raises(ValueError, match=sentence):
        TrafficPlan(**fields)  # type: ignore[arg-type]


def test_a_plan_survives_its_json() -> None:
    assert TrafficPlan.from_json(ab(0.25).to_json() | {"later": 1}) == ab(0.25)
