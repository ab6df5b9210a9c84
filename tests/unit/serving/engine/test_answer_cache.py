"""The cache is bounded, and never answers for another model."""

from serving.engine.answer_cache import AnswerCache, CachedAnswer

ANSWER = CachedAnswer([0.1, 0.2, 0.7], truncated=False)


def test_what_was_used_least_recently_goes_first() -> None:
    cache = AnswerCache(2)
    cache.put(("d", "one", "a"), ANSWER)
    cache.put(("d", "two", "a"), ANSWER)
    cache.get(("d", "one", "a"))
    cache.put(("d", "three", "a"), ANSWER)
    assert cache.get(("d", "two", "a")) is None
    assert cache.get(("d", "one", "a")) == ANSWER
    assert len(cache) == 2


def test_answers_of_dropped_models_are_forgotten() -> None:
    cache = AnswerCache(10)
    cache.put(("old", "t", "a"), ANSWER)
    assert cache.get(("new", "t", "a")) is None
    cache.keep_only(frozenset({"new"}))
    assert len(cache) == 0


def test_cache_off_or_long_text_keeps_nothing() -> None:
    off = AnswerCache(0)
    off.put(("d", "t", "a"), ANSWER)
    assert len(off) == 0
    cache = AnswerCache(10)
    cache.put(("d", "t" * 3000, "a"), ANSWER)
    assert len(cache) == 0
