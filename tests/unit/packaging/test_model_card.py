"""The model card says what a reader needs."""

from dataclasses import replace

from absa.packaging.card import CardFacts, render_card
from absa.task import TaskSpec

FACTS = CardFacts(
    base_model="minilm-l6",
    layers=6,
    snapshot="abc123",
    training={"rows": 4000, "steps": 100, "epochs": 2.5, "train_s": 31.2, "device": "cpu", "precision": "bf16"},
    settings={"seed": 0, "max_tokens": 128},
    calibration={"temperature": 1.2, "ece_before": 0.1, "ece_after": 0.02, "rows": 200},
    parity={"rows": 200, "labels_equal": 0.995, "f1_fp32": 0.801, "f1_int8": 0.799},
)


def test_the_card_names_data_quality_and_limits() -> None:
    card = render_card(FACTS)
    for said in ("abc123", "0.799", "99.5%", "temperature 1.200", "Where not to", "of the test split"):
        assert said in card


def test_card_of_another_task_names_its_labels() -> None:
    task = TaskSpec(name="tickets", input="text", labels=("billing", "Bug [UI]", "praise"), evaluated=("billing",))
    card = render_card(replace(FACTS, task=task, parity=FACTS.parity | {"f1_by_label": (0.7, 0.8, 0.9)}))
    for said in (
        "# tickets",
        "billing, Bug \\[UI\\], praise",
        "F1 0.799",
        "(macro F1 of billing over all rows)",
        "praise 0.900",
    ):
        assert said in card
    assert "aspect" not in card.casefold()
    assert "sentiment" not in card.casefold()


def test_early_end_of_training_is_on_card() -> None:
    early = FACTS.training | {"ended_early": "token shard 3 does not come"}
    assert "ended early: token shard 3 does not come" in render_card(replace(FACTS, training=early))
    assert "ended early" not in render_card(replace(FACTS, training=FACTS.training | {"ended_early": None}))
