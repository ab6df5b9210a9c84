"""The loop on a tiny encoder: it learns, keeps its deadline, resumes, and is the same for the same seed."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from absa.errors import DeadlineMissedError, PermanentError, TransientError
from absa.evaluation.counts import pos_neg_f1
from absa.inference.tokenization import Template
from absa.modeling.architecture import Architecture, Layer, PairClassifier
from absa.training.checkpoints import Checkpoints
from absa.training.deadline import Deadline
from absa.training.progress import Progress
from absa.training.rows.choice import CHUNK_ROWS
from absa.training.rows.shards import PLAN_FILE, ShardCorpus, TokenPlan, pack_shard, shard_name
from absa.training.rows.tokens import TokenRows, join
from absa.training.step.parameters import parameter_groups
from absa.training.step.ranks import Ranks
from absa.training.trainer import InterruptedTrainingError, Trainer
from absa.training.training_settings import TrainingSettings

TINY = Architecture(layers=2, hidden=16, heads=2, intermediate=32, vocabulary=40, positions=32)
SETTINGS = TrainingSettings(
    threads=1,
    batch_tokens=128, max_epochs=12, learning_rate=5e-3, head_learning_rate=5e-3, precision="fp32", device="cpu",
    train_words=True, label_smoothing=0.0,
)  # fmt: skip


def rows(count: int = 240) -> TokenRows:
    """Texts in which one word in six says the label."""
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 3, count).astype(np.int8)
    texts = [np.append(chance.integers(10, 30, 5), 31 + label).astype(np.uint16) for label in labels]
    return join(texts, [text[:1] for text in texts], labels, Template.bert(1, 2))


def model(seed: int = 0) -> PairClassifier:
    torch.manual_seed(seed)
    return PairClassifier(TINY, dropout=0.0)


def train(settings: TrainingSettings = SETTINGS, seconds: float = 1e6, **more: object) -> Trainer:
    return Trainer(model(), rows(), rows(60), settings, Deadline.after(seconds), **more)  # type: ignore[arg-type]


def predicted(trainer: Trainer, on: TokenRows) -> np.ndarray:
    from absa.training.rows.batches import for_scoring

    labels, averaged = np.zeros(len(on), int), trainer.averaged()
    with torch.inference_mode():
        for index, batch in for_scoring(on, 512):
            mask = None if batch.mask is None else torch.from_numpy(batch.mask)
            logits = averaged(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.token_types), mask)
            labels[index] = logits.argmax(1).numpy()
    return labels


def test_it_learns_what_can_be_learned() -> None:
    trainer = train()
    result = trainer.run()
    held_out = rows(400).take(np.arange(240, 400))
    assert pos_neg_f1(held_out.labels, predicted(trainer, held_out)) > 0.95
    assert result.epochs == pytest.approx(12)
    assert result.rows == 12 * 240
    assert result.ended_early is None


def test_equal_seeds_give_equal_models() -> None:
    first, second = train(), train()
    first.run()
    second.run()
    for one, other in zip(first.averaged().parameters(), second.averaged().parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_training_ends_at_deadline_with_annealed_rate() -> None:
    seen: list[Progress] = []
    settings = TrainingSettings.from_json(SETTINGS.to_json() | {"max_epochs": 1e9})
    start = time.time()
    result = train(settings, seconds=2.5, watch=seen.append).run()
    assert time.time() - start < 3.0
    assert result.train_s > 1.8
    assert result.ended_early is None
    assert seen[-1].lr < 0.1 * settings.learning_rate
    assert [each.remaining_s for each in seen] == sorted((each.remaining_s for each in seen), reverse=True)


class Clock:
    """Wall-clock time that a test sets; `time.time` tells it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr("absa.training.trainer._TICK_S", 0.0)


def rates(
    clock: Clock, ends_at: float, *, first_step_s: float = 10.0, wait_s: float = 0.0, kept: Path | None = None
) -> list[float]:
    """Shares of the peak rate of the next four steps. Each takes 10 s but the first; `wait_s` pass before the loop."""
    seen: list[float] = []
    settings = TrainingSettings.from_json(SETTINGS.to_json() | {"max_epochs": 1e9})

    def after_step() -> bool:
        clock.now += first_step_s if len(seen) == 0 else 10.0
        return len(seen) == 4

    trainer = Trainer(
        model(), rows(), None, settings, Deadline(ends_at), stop=after_step,
        watch=lambda progress: seen.append(progress.lr / settings.learning_rate),
        checkpoints=None if kept is None else Checkpoints(kept),
    )  # fmt: skip
    clock.now += wait_s
    with pytest.raises(InterruptedTrainingError):
        trainer.run()
    return seen


def test_time_before_second_step_spares_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    ends_at = clock.now + 1_000.0
    found = rates(clock, ends_at, wait_s=140.0, first_step_s=60.0)
    assert found[0] == 0
    assert found == sorted(found)
    assert 0 < found[1] < found[-1] < 0.5


def test_resumed_run_uses_rate_of_elapsed_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = Clock(monkeypatch)
    ends_at = clock.now + 1_010.0
    rates(clock, ends_at, kept=tmp_path)
    clock.now = ends_at - 510.0
    found = rates(clock, ends_at, kept=tmp_path)
    assert found == pytest.approx([0.5 / 0.9, 0.49 / 0.9, 0.48 / 0.9, 0.47 / 0.9], abs=0.01)


@pytest.mark.parametrize("old", [False, True])
def test_foreign_checkpoint_counts_its_training_time_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: bool
) -> None:
    clock = Clock(monkeypatch)
    rates(clock, clock.now + 1_000.0, kept=tmp_path)
    kept = Checkpoints(tmp_path)
    state = kept.load()
    assert state is not None
    state["train_s"] = 250.0
    kept.save(100, {name: value for name, value in state.items() if not old or name not in ("rate_from", "ends_at")})
    clock.now += 90_000.0
    found = rates(clock, clock.now + 750.0, kept=tmp_path)
    assert found[0] == pytest.approx(0.74 / 0.9, abs=0.01)


def test_budget_already_over_misses_deadline() -> None:
    with pytest.raises(DeadlineMissedError, match="budget"):
        train(seconds=-1).run()


def test_stopped_training_resumes_and_ends_the_same(tmp_path: Path) -> None:
    whole = train()  # the deadline is far: data decide the rate, not time
    whole.run()
    asked = iter(range(10_000))
    with pytest.raises(InterruptedTrainingError):
        train(checkpoints=Checkpoints(tmp_path), stop=lambda: next(asked) == 40).run()
    resumed = train(checkpoints=Checkpoints(tmp_path))
    result = resumed.run()
    assert result.resumed
    assert result.rows == 12 * 240
    for one, other in zip(whole.averaged().parameters(), resumed.averaged().parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_ended_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(checkpoints=Checkpoints(tmp_path))
    steps = first.run().steps
    again = train(seconds=-1, checkpoints=Checkpoints(tmp_path)).run()
    assert again.steps == steps


def test_a_checkpoint_of_other_data_is_not_used(tmp_path: Path) -> None:
    train(checkpoints=Checkpoints(tmp_path)).run()
    other = Trainer(
        model(), rows(120), None, SETTINGS, Deadline.after(60), checkpoints=Checkpoints(tmp_path)
    )  # fmt: skip
    assert not other.run().resumed


def test_out_of_memory_halves_batch_and_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = train(TrainingSettings.from_json(SETTINGS.to_json() | {"batch_tokens": 512, "max_epochs": 2}))
    real = PairClassifier.forward_lines

    def small_memory(self: PairClassifier, input_ids: torch.Tensor, *rest: object) -> torch.Tensor:
        if input_ids.numel() > 300:
            raise torch.OutOfMemoryError("too large")
        return real(self, input_ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PairClassifier, "forward_lines", small_memory)
    result = trainer.run()
    assert result.rows == 2 * 240
    assert 128 <= result.batch_tokens <= 300


def test_cudnn_attention_is_off_inside_model_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = Layer.forward, set()

    def watched(self: Layer, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        seen.add(torch.backends.cuda.cudnn_sdp_enabled())
        return real(self, x, mask)

    monkeypatch.setattr(Layer, "forward", watched)
    train(TrainingSettings.from_json(SETTINGS.to_json() | {"max_epochs": 1})).run()
    assert seen == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_norms_do_not_decay_and_heads_learn_faster() -> None:
    settings = TrainingSettings(learning_rate=1.0, head_learning_rate=8.0)
    groups = parameter_groups(model(), settings, new_head=True)
    assert {group["rate"] for group in groups} == {8.0, 1.0}
    assert {group["rate"] for group in parameter_groups(model(), settings, new_head=False)} == {1.0}
    for group in groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])


def test_frozen_words_do_not_move() -> None:
    settings = TrainingSettings.from_json(SETTINGS.to_json() | {"train_words": False, "max_epochs": 1})
    trainer = train(settings)
    before = model().words.weight.clone()
    trainer.run()
    assert torch.equal(trainer.averaged().words.weight, before)


def test_only_top_layers_learn_when_requested() -> None:
    settings = TrainingSettings.from_json(SETTINGS.to_json() | {"train_layers": 1, "max_epochs": 1})
    trainer = train(settings)
    before = {name: value.clone() for name, value in model().named_parameters()}
    trainer.run()
    moved = {name for name, value in trainer.averaged().named_parameters() if not torch.equal(value, before[name])}
    top = f"layers.{model().architecture.layers - 1}."
    assert {name.split(".")[0] for name in moved} == {"layers", "classifier"}
    assert all(name.startswith((top, "classifier.")) for name in moved)


def test_cuda_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(PermanentError, match="CUDA"):
        train(TrainingSettings(device="cuda"))


def shards(folder: Path, counts: tuple[int, ...] = (100, 80, 60), *, made: int | None = None) -> ShardCorpus:
    """The rows of `rows` in shards, the first `made` of which are there; the others are not waited for."""
    everything = rows(sum(counts))
    plan = TokenPlan(snapshot="s", tokenizer="t", side="train", max_tokens=32, rows=counts)
    (folder / PLAN_FILE).write_text(plan.to_json())
    for number, count in enumerate(counts[:made]):
        first = sum(counts[:number])
        (folder / shard_name("train", number)).write_bytes(pack_shard(everything.take(range(first, first + count))))
    return ShardCorpus(folder, left_s=lambda: 0.0)


def test_training_on_shards_equals_training_on_rows(tmp_path: Path) -> None:
    trainer = Trainer(model(), shards(tmp_path), None, SETTINGS, Deadline.after(1e6))
    result = trainer.run()
    held_out = rows(400).take(np.arange(240, 400))
    assert pos_neg_f1(held_out.labels, predicted(trainer, held_out)) > 0.95
    assert result.rows == 12 * 240
    assert result.choice["rows"] == 240
    assert result.choice["candidates"] == 1
    assert 0 < result.mfu < 1


def test_resumed_run_keeps_choice_of_rows(tmp_path: Path) -> None:
    corpus = shards(tmp_path, (9_000, 9_000))
    kept = Checkpoints(tmp_path / "kept")
    asked = iter(range(10_000))
    first = Trainer(
        model(), corpus, None, SETTINGS, Deadline.after(0.4), checkpoints=kept, stop=lambda: next(asked) == 3
    )  # fmt: skip
    with pytest.raises(InterruptedTrainingError):
        first.run()
    assert first._choice.pool > 1
    resumed = Trainer(model(), corpus, None, SETTINGS, Deadline.after(0.5), checkpoints=kept)
    assert resumed._choice == first._choice
    assert resumed.run().choice["candidates"] == round(first._choice.pool, 2)


def test_batches_grow_where_passes_do_not_fit(tmp_path: Path) -> None:
    corpus, kept = shards(tmp_path, (4_000,)), Checkpoints(tmp_path / "kept")

    def chosen(passes: float) -> Trainer:
        settings = TrainingSettings.from_json(SETTINGS.to_json() | {"batch_tokens": None, "max_epochs": passes})
        speeds = iter((100.0, 150.0, 200.0))
        trainer = Trainer(
            model(),
            corpus,
            None,
            settings,
            Deadline.after(1e5),
            checkpoints=kept,
            measure=lambda *_, **__: next(speeds),
        )
        trainer._choose(corpus)
        return trainer

    assert chosen(1.0)._layout.tokens == 256
    short = chosen(1e12)
    tokens = short._layout.tokens
    assert tokens == 1_024
    assert short._optimizer.param_groups[0]["peak"] == pytest.approx(5e-3 * (tokens / 256) ** 0.25)
    short._keep()
    again = Trainer(model(), corpus, None, short.settings, Deadline.after(1e5), checkpoints=kept)
    assert again.resumed
    assert again._layout.tokens == tokens


LARGE_BATCHES = TrainingSettings.from_json(SETTINGS.to_json() | {"batch_tokens": 4_096})


def test_missing_rows_end_training_with_steps(tmp_path: Path) -> None:
    corpus, kept = shards(tmp_path, (CHUNK_ROWS, 100), made=1), Checkpoints(tmp_path / "kept")
    trainer = Trainer(model(), corpus, None, LARGE_BATCHES, Deadline.after(1e6), checkpoints=kept)
    result = trainer.run()
    assert "token shard 1" in str(result.ended_early)
    assert result.rows == CHUNK_ROWS
    assert pos_neg_f1(rows().labels, predicted(trainer, rows())) > 0.6
    state = kept.load()
    assert state is not None
    assert state["counts"][0] == result.steps


def test_without_the_first_rows_there_is_no_model(tmp_path: Path) -> None:
    corpus = shards(tmp_path, (CHUNK_ROWS - 1_000, 2_000), made=1)
    with pytest.raises(TransientError, match="token shard 1"):
        Trainer(model(), corpus, None, LARGE_BATCHES, Deadline.after(1e6)).run()


def test_process_without_rows_ends_training_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(10_000))

    def all_reduce(values: torch.Tensor, operation: object) -> None:
        if operation == torch.distributed.ReduceOp.MAX:  # the other process: has time, lacks rows, is not told to stop
            values.copy_(torch.maximum(values, torch.tensor([0.0, float(next(looks) == 3), 0.0, -1.0])))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    result = train(ranks=Ranks(rank=0, world=2)).run()
    assert result.steps == 3
    assert "another process" in str(result.ended_early)
