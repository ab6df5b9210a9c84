"""The model card says what a reader needs."""

from dataclasses import replace

from absa.packaging.card import CardFacts, render_card

FACTS = CardFacts(
    base_model="minilm-l6",
    layers=6,
    snapshot="abc123",
    training={"rows": 4000, "steps": 100, "epochs": 2.5, "train_s": 31.2, "device": "cpu", "precision": "bf16"},
    settings={"seed": 0, "max_tokens": 128},
    calibration={"temperature": 1.2, "ece_before": 0.1, "ece_after": 0.02, "rows": 200},
    parity={"rows": 200, "labels_equal": 0.995, "pos_neg_f1_fp32": 0.801, "pos_neg_f1_int8": 0.799},
)


def test_the_card_names_data_quality_and_limits() -> None:
    card = render_card(FACTS)
    for said in ("abc123", "0.799", "99.5%", "temperature 1.200", "Where not to"):
        assert said in card


def test_early_end_of_training_is_on_card() -> None:
    early = FACTS.training | {"ended_early": "token shard 3 does not come"}
    assert "ended early: token shard 3 does not come" in render_card(replace(FACTS, training=early))
    assert "ended early" not in render_card(replace(FACTS, training=FACTS.training | {"ended_early": None}))
