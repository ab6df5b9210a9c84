"""Rows that join the reference, and rows that leave it."""

from absa.policies import StalenessPolicy
from monitoring.traffic.kept_rows import changed_recent, changed_reference, last_windows
from tests.unit.monitoring.traffic.frames import hours, traffic

POLICY = StalenessPolicy(min_rows=50, min_reference_rows=50, reference_rows=150)
DAY = 24


def test_slot_is_filled_up_to_its_size() -> None:
    first, second = hours(10), hours(7 * DAY + 10)
    one = changed_reference(None, traffic(first), first, POLICY, sound=True)
    assert one is not None
    two = changed_reference(one, traffic(second), second, POLICY, sound=True)
    assert two is not None
    assert two["window_start"].value_counts().sort("window_start")["count"].to_list() == [100, 50]
    third = hours(14 * DAY + 10)
    assert changed_reference(two, traffic(third), third, POLICY, sound=True) is None
    other = hours(14 * DAY + 11)
    assert changed_reference(two, traffic(other), other, POLICY, sound=True) is not None


def test_unsound_window_neither_joins_nor_stays() -> None:
    window, later = hours(10), hours(11)
    assert changed_reference(None, traffic(window), window, POLICY, sound=False) is None
    reference = changed_reference(None, traffic(window), window, POLICY, sound=True)
    assert changed_reference(reference, traffic(later), later, POLICY, sound=False) is None
    left = changed_reference(reference, traffic(window), window, POLICY, sound=False)
    assert left is not None
    assert left.height == 0


def test_judging_again_replaces_rows_of_the_window() -> None:
    window = hours(10)
    rows = traffic(window)
    reference = changed_reference(None, rows, window, POLICY, sound=True)
    again = changed_reference(reference, rows, window, POLICY, sound=True)
    assert again is not None
    assert again["request_id"].to_list() == rows["request_id"].to_list()


def test_reference_without_cycle_takes_whole_windows() -> None:
    policy = StalenessPolicy(min_rows=50, min_reference_rows=50, reference_rows=150, cycle="none")
    first, second = hours(1), hours(2)
    one = changed_reference(None, traffic(first), first, policy, sound=True)
    two = changed_reference(one, traffic(second), second, policy, sound=True)
    assert two is not None
    assert two.height == 200
    assert changed_reference(two, traffic(hours(3)), hours(3), policy, sound=True) is None


def test_recent_rows_span_eight_windows() -> None:
    recent = None
    for k in range(12):
        recent = changed_recent(recent, traffic(hours(k)), hours(k), POLICY)
    assert recent is not None
    assert recent["window_start"].unique().sort().to_list() == [hours(k).start for k in range(4, 12)]
    pooled = last_windows(recent, traffic(hours(12), 400), hours(12), POLICY)
    assert pooled is not None
    assert pooled["window_start"].value_counts()["count"].max() == POLICY.reference_rows
    assert last_windows(recent, traffic(hours(40)), hours(40), POLICY) is None
