"""Tests of the drift detectors."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from monitoring.drift.columns import words_of
from monitoring.drift.detect import detect_drift
from monitoring.drift.sample import Sample, concat_samples

Make = Callable[..., Sample]


def kinds(reference: Sample, current: Sample, **options: float) -> set[str]:
    return {finding.kind for finding in detect_drift(reference, current, **options).drifted}


def test_traffic_like_the_reference_raises_no_alarm(make: Make) -> None:
    alarms = sum(bool(kinds(make(seed, 400), make(seed + 100, 300), false_alarm_rate=0.01)) for seed in range(20))
    assert alarms <= 2


def test_new_topic_in_tenth_of_traffic_is_found(make: Make) -> None:
    mixed = concat_samples(make(1, 450), make(2, 50, topic="garden"))
    assert {"unknown_words", "word_use", "segment_mix"} <= kinds(make(3, 1000), mixed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a naïve Café_bar, 2 of 3!", ["it's", "a", "naïve", "café", "bar", "2", "of", "3"]),
        ("Straße — Ёлка; don't 😀", ["strasse", "ёлка", "don't"]),
        ("cafe\u0301 हिन्दी भाषा।", ["cafe\u0301", "हिन्दी", "भाषा"]),
        ("この app は遅い。", ["こ", "の", "app", "は", "遅", "い"]),
        ("账单错了abc", ["账", "单", "错", "了", "abc"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("한국어 앱", ["한국어", "앱"]),
        ("", []),
    ],
    ids=["latin", "cyrillic", "marks", "japanese", "chinese", "thai", "hebrew", "korean", "empty"],
)
def test_words_follow_the_script_of_a_text(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


def test_unknown_word_share_equals_count(make: Make) -> None:
    reference, current = make(3, 400), concat_samples(make(1, 180), make(2, 20, topic="garden"))
    known = {word for text in reference.texts or () for word in words_of(text)}
    shares = [np.mean([word not in known for word in words_of(text)]) for text in current.texts or ()]
    (finding,) = [f for f in detect_drift(reference, current).findings if f.kind == "unknown_words"]
    assert finding.statistic == pytest.approx(float(np.mean(shares)), abs=1e-6)


def test_class_share_shift_is_named_in_sentence(make: Make) -> None:
    shifted = make(1, 500, shares=(0.6, 0.2, 0.2))
    report = detect_drift(make(2, 1000), shifted)
    (finding,) = [f for f in report.drifted if f.kind == "class_shares"]
    assert "negative rose" in finding.sentence or "positive fell" in finding.sentence
    assert 0.2 < finding.effect < 0.4


def test_less_confident_answers_are_found(make: Make) -> None:
    assert "confidence" in kinds(make(1, 800), make(2, 400, accuracy=0.70))


def test_longer_texts_are_found(make: Make) -> None:
    current = make(2, 300)
    assert current.texts is not None
    doubled = replace(current, texts=tuple(f"{text} {text}" for text in current.texts))
    assert "text_length" in kinds(make(1, 600), doubled)


def test_redacted_log_turns_text_drift_off(make: Make) -> None:
    def redacted(sample: Sample) -> Sample:
        return replace(sample, texts=None, aspects=None)

    report = detect_drift(redacted(make(1, 300)), redacted(make(2, 300)))
    assert {f.kind for f in report.findings} <= {"class_shares", "confidence", "segment_mix"}
    assert "texts" in report.skipped[0]


def test_tiny_window_is_not_tested_with_reason(make: Make) -> None:
    report = detect_drift(make(1, 500), make(2, 12))
    assert report.findings == ()
    assert report.too_small is not None
    assert "12 predictions" in report.too_small


def test_one_class_and_one_text_do_not_crash(make: Make) -> None:
    flat = make(1, 200)
    flat = replace(
        flat,
        labels=np.zeros(200, dtype=np.int64),
        scores=np.tile([1.0, 0.0, 0.0], (200, 1)),
        texts=("",) * 200,
        aspects=("",) * 200,
    )
    report = detect_drift(flat, flat)
    assert not report.drifted


def test_sentences_quote_no_text(make: Make) -> None:
    report = detect_drift(make(1, 600), make(2, 300, topic="garden"))
    said = " ".join(f.sentence for f in report.findings if f.kind != "segment_mix").casefold()
    assert not {"spade", "hose", "tulip", "compost", "hedge", "mower", "printer"} & set(said.split())


def test_equal_input_gives_an_equal_report(make: Make) -> None:
    assert detect_drift(make(1, 300), make(2, 200), seed=4) == detect_drift(make(1, 300), make(2, 200), seed=4)


def test_large_samples_are_cut_down_before_testing(make: Make) -> None:
    reference, shifted = make(1, 2_000), make(2, 2_000, shares=(0.36, 0.2, 0.44))
    assert "class_shares" in kinds(reference, shifted)
    report = detect_drift(reference, shifted, max_rows=60)  # too few for so small a shift
    assert (report.reference_rows, report.current_rows) == (2_000, 2_000)
    assert "class_shares" not in {finding.kind for finding in report.drifted}
    assert "class_shares" in {finding.kind for finding in report.findings}


def in_segments(sample: Sample) -> Sample:
    return replace(sample, segments=tuple(("eu", "us")[i % 2] for i in range(sample.rows)))


def test_segment_shift_hidden_by_another_is_named(make: Make) -> None:
    reference, current = in_segments(make(1, 1_200)), in_segments(make(2, 800))
    labels = current.labels.copy()
    for start, label in ((0, 0), (1, 2)):  # 'eu' turns negative and 'us' positive
        labels[np.arange(start, 800, 2)[:120]] = label
    moved = detect_drift(reference, replace(current, labels=labels))
    (finding,) = [f for f in moved.drifted if f.kind == "segment_classes"]
    assert "In segment" in finding.sentence
    assert finding.effect > 0.1


def test_small_segments_are_not_tested(make: Make) -> None:
    sample = make(1, 300)
    few = replace(sample, segments=tuple(str(i % 10) for i in range(300)))
    assert "segment_classes" not in {f.kind for f in detect_drift(few, few).findings}
