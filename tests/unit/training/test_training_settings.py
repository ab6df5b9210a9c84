"""Training settings: saved with the model, and refused with a sentence when wrong."""

import pytest

from absa.errors import PermanentError
from absa.training.training_settings import TrainingSettings


def test_settings_survive_json() -> None:
    settings = TrainingSettings(layers=3, seed=7, compose_share=0.0)
    assert TrainingSettings.from_json(settings.to_json()) == settings


def test_what_is_not_named_keeps_its_default() -> None:
    assert TrainingSettings.from_json({"layers": 2}) == TrainingSettings(layers=2)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"learning_rte": 1}, "learning_rte"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"compose_share": 1.0}, "compose_share"),
        ({"precision": "fp8"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"max_tokens": 4}, "max_tokens"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(PermanentError, match=named):
        TrainingSettings.from_json(values)
