"""The learning rate over time, and the average of weights."""

from hypothesis import given
from hypothesis import strategies as st

from absa.training.step.schedule import ema_decay, progress, rate_share

shares = st.floats(0, 1, allow_nan=False)


@given(at=shares, warmup=st.floats(0, 0.9))
def test_the_rate_stays_between_zero_and_its_peak(at: float, warmup: float) -> None:
    assert 0 <= rate_share(at, warmup) <= 1


@given(warmup=st.floats(0.01, 0.5))
def test_rate_peaks_after_warmup_and_ends_at_zero(warmup: float) -> None:
    assert rate_share(0, warmup) == 0
    assert rate_share(warmup, warmup) == 1
    assert rate_share(1, warmup) == 0


@given(elapsed=st.floats(0, 3), epochs=shares)
def test_progress_is_larger_of_time_and_data(elapsed: float, epochs: float) -> None:
    assert progress(elapsed_share=elapsed, epoch_share=epochs) == min(1, max(elapsed, epochs))


def test_average_equals_model_at_first_step() -> None:
    assert ema_decay(1, 0.1) == 0


def test_average_of_constant_is_constant() -> None:
    average = 0.0
    for step in range(1, 200):
        decay = ema_decay(step, 0.1)
        average = decay * average + (1 - decay) * 7.0
        assert abs(average - 7.0) < 1e-9


def test_average_covers_share_of_steps() -> None:
    assert ema_decay(1000, 0.1) == 1 - 1 / 100
