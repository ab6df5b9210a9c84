"""Simulated customers: endless, seeded, never repeating, and drifting by exactly what was asked."""

from collections import Counter
from itertools import islice

import polars as pl
import pytest

from absa.data.normalise import normalise, side_key
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift, drift_of
from absa.data.traffic.pool_traffic import PoolTraffic
from absa.data.traffic.population import Flood, Population, Users
from absa.data.traffic.row_pool import LabelledRow, hold_back, known_texts

POOL = [
    LabelledRow(f"{word} {thing} {verdict}", thing, label, segment)
    for segment, things in (("home", ("garden", "kitchen")), ("work", ("desktop", "printer")), (None, ("weather",)))
    for thing in things
    for word in ("Today my", "Honestly the", "Since Monday our")
    for label, verdict in ((0, "keeps breaking down"), (1, "stands somewhere around"), (2, "makes everyone happy"))
]
AREA = [
    LabelledRow(f"{word} dragon", "dragon", 2 * (n % 2), "games") for n, word in enumerate(("Tame", "Savage", "Lazy"))
]


def take(count: int, **options) -> list:
    return list(islice(PoolTraffic(POOL, AREA, **options), count))


def test_equal_seeds_give_equal_streams():
    assert take(300, seed=3) == take(300, seed=3)
    assert [r.text for r in take(50, seed=3)] != [r.text for r in take(50, seed=4)]


def test_texts_are_served_once_from_small_pool():
    texts = [side_key(request.text) for request in islice(PoolTraffic(AREA), 3000)]
    assert len(set(texts)) == 3000


def test_a_text_that_was_ingested_is_never_served():
    ingested = known_texts([pl.DataFrame({"text": [row.text.upper() + "!!" for row in POOL]})])
    served = {side_key(request.text) for request in take(1000, avoid=ingested)}
    assert not served & ingested


def test_rows_are_served_as_written_before_varied():
    stream = take(len(POOL) * 4, composed_share=0.0)
    first_of = {}
    for request in stream:
        root = next(row for row in POOL if row.aspect == request.aspect and request.true_label == row.label)
        first_of.setdefault((root.aspect, root.label), request.text)
    assert set(first_of.values()) <= {row.text for row in POOL}
    assert {row.text for row in POOL} <= {request.text for request in stream}


def test_aspect_is_in_text_with_known_label():
    verdicts = {0: "breaking", 1: "somewhere", 2: "happy"}
    for request in take(500, composed_share=1.0, seed=1):
        assert normalise(request.aspect) in normalise(request.text)
        parts = [p for p in POOL if p.aspect == request.aspect and p.text in request.text]
        assert {part.label for part in parts} <= {request.true_label}
    written = {row.text for row in POOL}
    plain = [request for request in take(300, composed_share=0.0) if request.text in written]
    assert len(plain) == len(POOL)
    assert all(verdicts[request.true_label] in request.text for request in plain)


def test_joined_texts_are_two_rows_of_one_segment():
    home = {row.text for row in POOL if row.segment == "home"}
    joined = [r for r in take(200, composed_share=1.0) if r.segment == "home" and r.text.count("my") > 1]
    assert joined
    for request in joined:
        assert sum(text in request.text for text in home) >= 1
        assert not any(row.text in request.text for row in POOL if row.segment != "home")


def test_undrifted_labels_keep_pools_mix():
    stream = take(1800)
    for part in (stream[:900], stream[900:]):
        shares = Counter(request.true_label for request in part)
        assert all(abs(shares[label] / 900 - 1 / 3) < 0.06 for label in range(3))
    assert all(request.drifted == () for request in stream)


def test_new_area_takes_share_from_its_start():
    stream = take(1500, drift=Drift(new_area_share=0.6, starts_at=500))
    assert not any(request.segment == "games" for request in stream[:500])
    after = sum(request.segment == "games" for request in stream[500:]) / 1000
    assert abs(after - 0.6) < 0.05
    assert all(("new_area" in r.drifted) == (r.segment == "games") for r in stream)


def test_a_ramp_grows_from_nothing_to_full_strength():
    drift = Drift(new_area_share=1.0, starts_at=100, ramp=1000)
    assert [drift.strength(n) for n in (0, 99, 100, 600, 1100, 9999)] == [0, 0, 0, 0.5, 1, 1]
    stream = take(1300, drift=drift)
    early = sum(r.segment == "games" for r in stream[100:600]) / 500
    late = sum(r.segment == "games" for r in stream[600:1100]) / 500
    assert early == pytest.approx(0.25, abs=0.08)
    assert late == pytest.approx(0.75, abs=0.08)
    assert all(r.segment == "games" for r in stream[1100:])


def test_class_shares_move_to_the_asked_mix():
    stream = take(3000, drift=Drift(class_shares=(0.7, 0.2, 0.1)))
    counts = Counter(request.true_label for request in stream)
    assert [counts[label] / 3000 for label in range(3)] == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_concept_change_swaps_labels_of_named_aspects():
    before = take(600, seed=5)
    after = take(600, seed=5, drift=Drift(concept_aspects=("GARDEN",)))
    for old, new in zip(before, after, strict=True):
        assert new.text == old.text
        flipped = old.aspect == "garden" and old.true_label != 1
        assert new.true_label == (2 - old.true_label if flipped else old.true_label)
        assert ("concept" in new.drifted) == flipped


def test_concept_share_always_flips_same_aspects():
    drift = Drift(concept_share=0.5)
    flips = {row.aspect: drift.flips(row.aspect) for row in POOL}
    assert flips == {row.aspect: Drift(concept_share=0.5).flips(row.aspect.upper()) for row in POOL}
    assert len([a for a in range(2000) if drift.flips(f"aspect of kind {chr(a + 200)}")]) == pytest.approx(1000, abs=80)


def test_vocabulary_is_swapped_outside_the_aspect():
    pool = [LabelledRow("The happy printer makes everyone happy", "happy printer", 2)]
    drift = Drift(vocabulary_share=1.0, vocabulary=(("happy", "stoked"),))
    request = next(PoolTraffic(pool, drift=drift))
    assert request.text == "The happy printer makes everyone stoked"
    assert request.drifted == ("vocabulary",)


def test_noise_spares_the_aspect_and_keeps_the_label():
    before, after = take(300, seed=2), take(300, seed=2, drift=Drift(noise_share=1.0))
    assert [r.true_label for r in after] == [r.true_label for r in before]
    assert all(normalise(r.aspect) in normalise(r.text) for r in after)
    assert sum(a.text != b.text for a, b in zip(before, after, strict=True)) > 280


def test_drifts_combine_and_switch_during_stream():
    traffic = PoolTraffic(POOL, AREA)
    assert all(r.drifted == () for r in islice(traffic, 100))
    traffic.switch(Drift(new_area_share=0.5, noise_share=1.0, starts_at=50))
    assert all(r.drifted == () for r in islice(traffic, 50))
    kinds = Counter(kind for r in islice(traffic, 200) for kind in r.drifted)
    assert kinds["noise"] == 200
    assert 60 < kinds["new_area"] < 140
    traffic.switch(None)
    assert all(r.drifted == () for r in islice(traffic, 100))


def test_feedback_habits_leave_requests_unchanged():
    quiet, loud = (
        take(200, feedback=FeedbackHabits(answer_rate_right=0.0)),
        take(200, feedback=FeedbackHabits(answer_rate_right=1.0)),
    )
    assert [(r.text, r.unit_id, r.true_label) for r in quiet] == [(r.text, r.unit_id, r.true_label) for r in loud]
    assert all(r.feedback_label is None for r in quiet)


def test_accounts_return_with_activity_and_segment():
    stream = take(4000, population=Population(users=Users(count=200)))
    activity = Counter(request.unit_id for request in stream)
    assert 100 < len(activity) <= 200
    assert activity.most_common(1)[0][1] > 5 * sorted(activity.values())[len(activity) // 2]
    by_unit: dict[str, Counter] = {}
    for request in stream:
        by_unit.setdefault(request.unit_id, Counter())[request.segment] += 1
    busy = [by_unit[unit] for unit, _ in activity.most_common(10)]
    assert sum(c.most_common(1)[0][1] / c.total() for c in busy) / 10 > 0.8


def test_default_customers_return_in_sessions():
    stream = take(2000)
    last: dict[str, float] = {}
    soon = 0
    for request in stream:
        soon += request.at_s - last.get(request.unit_id, -1e9) < 600
        last[request.unit_id] = request.at_s
    assert len(last) <= 300
    assert soon > 1000


def test_independent_customers_never_return():
    assert len({request.unit_id for request in take(500, population=Population())}) == 500


def test_flood_writes_one_row_in_many_words():
    flood = Flood(starts_s=60.0, duration_s=600.0, requests=300, units=2)
    stream = take(400, population=Population(users=Users(), events=(flood,)))
    inside = [request for request in stream if 60 <= request.at_s < 660]
    (aspect, label), count = Counter((r.aspect, r.true_label) for r in inside).most_common(1)[0]
    copies = [r for r in inside if (r.aspect, r.true_label) == (aspect, label)]
    assert count >= 300
    assert len({side_key(r.text) for r in copies}) == count
    assert [n for _, n in Counter(r.unit_id for r in copies).most_common(2)] == pytest.approx([150, 150], abs=30)


def test_drifts_have_names_for_the_command_line():
    assert drift_of("none") is None
    assert drift_of("new-area", 0.4) == Drift(new_area_share=0.4)
    assert drift_of("concept+noise", 0.3, starts_at=9) == Drift(concept_share=0.3, noise_share=0.3, starts_at=9)
    shift = drift_of("class-shift", 0.4)
    assert shift is not None
    assert shift.class_shares == pytest.approx((0.6, 0.2, 0.2))
    with pytest.raises(ValueError, match="expected none, or some of new-area"):
        drift_of("earthquake")


@pytest.mark.parametrize(
    "settings", [{"new_area_share": 1.5}, {"noise_share": -0.1}, {"class_shares": (0.5, 0.5, 0.5)}, {"starts_at": -1}]
)
def test_a_drift_that_makes_no_sense_is_refused(settings):
    with pytest.raises(ValueError, match=r"share|requests"):
        Drift(**settings)


def test_a_source_without_rows_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        PoolTraffic([])
    with pytest.raises(ValueError, match="new area"):
        PoolTraffic(POOL, drift=Drift(new_area_share=0.1))


def test_rows_are_held_back_by_text():
    frame = pl.DataFrame({"text": [f"text of {chr(n + 300)}" for n in range(1000)] * 2})
    ingest, held = hold_back(frame, 0.25)
    assert held.height / 2000 == pytest.approx(0.25, abs=0.05)
    assert not set(ingest["text"]) & set(held["text"])
