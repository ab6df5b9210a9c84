"""Pairs that no row asks about."""

from absa.data.unasked import unasked_pairs

ASPECTS = ["Mobile App", "app", "search", "UI"]


def test_named_aspects_are_found_as_whole_words() -> None:
    texts = ["The mobile app and the search", "happy with research", "APP!"]
    found = unasked_pairs(texts, ASPECTS, [(texts[0], "search")])
    assert found == [(texts[0], "mobile app"), (texts[0], "app"), (texts[2], "app")]


def test_most_pairs_are_equal_for_equal_texts() -> None:
    texts = [f"app number {number}" for number in range(50)]
    found = unasked_pairs(texts, ASPECTS, [], most=5)
    assert len(found) == 5
    assert found == unasked_pairs(reversed(texts), ASPECTS, [], most=5)
