"""Training loop: trains until a deadline for any size of the data, and has a valid averaged model at any time."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from absa.errors import DeadlineMissedError, TransientError
from absa.evaluation.counts import task_f1
from absa.modeling.head import Classifier
from absa.training.checkpoints import Checkpoints
from absa.training.deadline import Limit
from absa.training.device import ATTENTION, pick_device, pick_precision
from absa.training.memory import available_bytes
from absa.training.progress import Progress, Tally, TrainingResult, Watcher
from absa.training.rows.batches import LINE_TOKENS, NO_LABEL, ROWS_A_LINE, Form
from absa.training.rows.choice import Choice, chunk_rows_of
from absa.training.rows.shards import Corpus, ShardCorpus
from absa.training.rows.stream import BatchStream, Compose, Position, made_ahead
from absa.training.rows.tokens import TokenRows
from absa.training.step.adamw import AdamW
from absa.training.step.batch_size import CPU_SIZES, cpu_batch_tokens, gpu_batch_tokens, rate_factor
from absa.training.step.execution import Execution, Staged
from absa.training.step.frozen import FrozenStates, capacity_tokens
from absa.training.step.parameters import frozen_layers, parameter_groups
from absa.training.step.ranks import Ranks
from absa.training.step.schedule import ema_decay, progress, rate_share
from absa.training.step.speed import MeasureSpeed, flops_per_token, learned_tokens_per_s, peak_flops
from absa.training.training_settings import TrainingSettings

_TICK_S: Final = 1.0
_WARMUP_SHARE: Final = 0.1  # share of the training in which the learning rate rises; then it falls to zero
_CHECKPOINT_SHARE: Final = 0.04  # largest share of the time for checkpoints
_VALIDATION_SHARE: Final = 0.04  # largest share of the time for validation
_VALIDATION_ROWS: Final = 512
_VALIDATION_TOKENS: Final = {"cpu": 2_048, "cuda": 65_536}
_COMPILED_FROM_S: Final = 120.0  # least time left for which kernels are compiled, which takes up to 40 s
_MEASURED_ROWS: Final = 2_048
_MEASURED_BATCHES: Final = 10
_WARM_BATCHES: Final = {"cpu": 1, "cuda": 2}
_CORRECTED_FROM_S: Final = 5.0  # time in the loop before its speed corrects the choice


Coming = tuple[Position, float, Staged]
"""Position and completed share of the pass after a batch, and the batch."""


class InterruptedTrainingError(Exception):
    """Stop of a training by SIGTERM; a checkpoint is on disk, and a new start resumes from it."""


class Trainer:
    """Trainer of one model on one device until a deadline.

    Use: call `Trainer(...).run()`; then `averaged()` returns the model to package.
    """

    def __init__(
        self,
        model: Classifier,
        train: Corpus,
        validation: TokenRows | None,
        settings: TrainingSettings,
        deadline: Limit,
        *,
        new_head: bool = True,
        compose: Compose | None = None,
        checkpoints: Checkpoints | None = None,
        watch: Watcher | None = None,
        stop: Callable[[], bool] = lambda: False,
        ranks: Ranks | None = None,
        since: float | None = None,
        replay: float | None = None,
        measure: MeasureSpeed = learned_tokens_per_s,
    ) -> None:
        """Prepare the training.

        Args:
            model: changed in place.
            train: rows to learn from.
            validation: rows whose F1 is reported during the training; F1 has no effect on the training.
            settings: settings of the training, which are saved with the model.
            deadline: end of the training, without later phases; it may move during the training.
            new_head: True if the head is untrained.
            compose: joins rows, with new joins in every pass.
            checkpoints: store of states, from which a run that starts again resumes.
            watch: receives the progress.
            stop: called after every step; if it returns True, a checkpoint is kept and the training stops.
            ranks: this process among several processes that train together.
            since: rows observed later (seconds since the epoch) are recent; None: unknown.
            replay: largest number of established rows per recent row; None: all.
            measure: returns the tokens per second of some batches.
        """
        self.settings, self.deadline, self._ranks = settings, deadline, ranks or Ranks()
        self._per_step = settings.batches_per_step or self._ranks.world
        self.device = pick_device(settings.device, self._ranks.local_rank)
        if self.device.type == "cpu" and settings.threads is not None:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.dtype = pick_precision(settings.precision, self.device, model.architecture)
        self.model = model.to(self.device)
        self._groups = parameter_groups(model, settings, new_head=new_head)
        gpu = self.device.type == "cuda"
        batch_tokens = settings.batch_tokens or (gpu_batch_tokens(len(train)) if gpu else CPU_SIZES[0])
        self._optimizer = AdamW(self._groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self._learning = [parameter for group in self._groups for parameter in group["params"]]
        self._average = [parameter.detach().clone() for parameter in self._learning]
        self._train = train
        self._compose, self._checkpoints, self._watch, self._stop = compose, checkpoints, watch, stop
        self._measure = measure
        wanted = settings.compiled == "on" or (
            settings.compiled == "auto" and gpu and deadline.remaining_s() >= _COMPILED_FROM_S
        )
        compiled = wanted and model.shares_lines  # batches of other encoders have many shapes
        self._frozen = frozen_layers(model, settings) if model.shares_lines else 0
        self._layout = Form(
            tokens=batch_tokens, width=max(LINE_TOKENS, settings.max_tokens), full=compiled,
            most=ROWS_A_LINE if model.shares_lines else 1,
        )  # fmt: skip
        self._choice = Choice(chunk_rows=chunk_rows_of(batch_tokens), since=since, replay=replay)
        self._fits = 0.0
        sized = gpu or settings.batch_tokens or not model.shares_lines
        self._sizes = (batch_tokens,) if sized else CPU_SIZES
        self._peak_flops = peak_flops(self.device, self.dtype)
        self._execution = Execution(
            self.model, settings, device=self.device, dtype=self.dtype, batch_tokens=batch_tokens, compiled=compiled,
            frozen=self._frozen,
        )  # fmt: skip
        self._looked_at = [] if validation is None else self._staged(_sample(validation, settings.seed))
        self._timed_from: tuple[float, int] | None = None  # seconds of training and number of rows after the first step
        self.after_step: Callable[[], None] = lambda: None  # called in the leading process
        self._use_batches(batch_tokens)
        self._position, self._share = Position(), 0.0
        self._step = self._rows = self._tokens = 0
        self._ended_early: str | None = None
        self._rate_from: float | None = None  # wall-clock time after the first step
        self._paused_s = 0.0  # time in `after_step`
        self._before_s = 0.0  # time in the loop before this start
        self._begun = time.perf_counter()
        self.resumed = self._restore()

    @property
    def step(self) -> int:
        """Number of steps so far."""
        return self._step

    @property
    def epochs(self) -> float:
        """Number of passes over the data so far, as a fraction."""
        return self._position.epoch + (self._share if (self._position.row, self._position.batch) != (0, 0) else 0.0)

    def run(self) -> TrainingResult:
        """Train until the deadline or `max_epochs`, whichever is first, or until rows are not made in time.

        Raises:
            DeadlineMissedError: there was no time for a single step, and there is no checkpoint to resume from.
            TransientError: the first rows were not made in time, or another process has ended.
            InterruptedTrainingError: `stop` returned True; the checkpoint is kept.
        """
        self._begun = time.perf_counter()
        self.model.train()
        with sdpa_kernel(ATTENTION):
            if isinstance(self._train, ShardCorpus) and not self.resumed:
                self._choose(self._train)
            self._keep_states()
            self._loop()
        if not self._step:
            if self._ended_early is not None:
                raise TransientError(self._ended_early)
            raise DeadlineMissedError("the budget ended before the first training step; give the run more time")
        self._keep()
        return self.result()

    def averaged_copy(self) -> Classifier:
        """Return a copy of the model with the averaged weights, in fp32 on the CPU; the training can continue."""
        copied = copy.deepcopy(self.model)
        learned = {id(parameter): average for parameter, average in zip(self._learning, self._average, strict=True)}
        with torch.no_grad():
            for mine, other in zip(self.model.parameters(), copied.parameters(), strict=True):
                if id(mine) in learned:
                    other.copy_(learned[id(mine)])
        return copied.float().cpu().eval()

    def averaged(self) -> Classifier:
        """Return the model, changed in place to the averaged weights, in fp32 on the CPU."""
        with torch.no_grad():
            for parameter, average in zip(self._learning, self._average, strict=True):
                parameter.copy_(average)
        return self.model.float().cpu().eval()

    def _loop(self) -> None:
        stream = BatchStream(
            self._train,
            layout=self._layout,
            seed=self.settings.seed,
            compose=self._compose,
            choice=self._choice,
            correct=self._corrected,
        )
        coming = stream.from_position(self._position)
        batches = made_ahead((at, share, self._execution.stage(batch)) for at, share, batch in coming)
        try:
            self._learn_from(batches)
        finally:
            batches.close()

    def _learn_from(self, batches: Iterator[Coming]) -> None:
        tally = Tally()
        kept_at, kept_s, validated_at, validation_s = self._begun, 0.0, self._begun, 0.0
        step_s = 0.0
        while True:
            start = time.perf_counter()
            late = self._ranks.leads and self._is_late(step_s + kept_s)  # the clock of one process decides for all
            over = late or self.epochs >= self.settings.max_epochs
            stop = self._stop() and self._step > 0
            taken = [] if over or stop else self._take(batches)
            over, missing, stop, at = self._ranks.agree(
                over=over,
                missing=self._ended_early is not None,
                stop=stop,
                progress=self._progress(),
                device=self.device,
            )
            if stop:
                self._keep()
                raise InterruptedTrainingError
            if missing and self._ended_early is None:
                self._ended_early = "another process of the training got no rows in time"
            if over or missing:
                break
            loss = self._learn([batch for _, _, batch in taken], rate_share(at, _WARMUP_SHARE))
            self._position, self._share, _ = taken[-1]
            self._step += 1
            self._rate_from = self._rate_from or time.time()
            self._rows += sum(batch.rows for _, _, batch in taken)
            self._timed_from = self._timed_from or (self.train_s, self._rows)
            tokens = sum(batch.tokens for _, _, batch in taken)
            self._tokens += tokens
            now = time.perf_counter()
            step_s = max(now - start, 0.8 * step_s)
            tally.add(loss, tokens)
            if not self._ranks.leads:
                continue
            self.after_step()
            pause_s = time.perf_counter() - now
            self._paused_s += pause_s
            tally.pause(pause_s)
            now += pause_s
            if now - kept_at >= max(self.settings.checkpoint_every_s, kept_s / _CHECKPOINT_SHARE):
                self._keep()
                kept_at, kept_s = time.perf_counter(), time.perf_counter() - now
            if tally.age_s() >= _TICK_S:
                f1, looked = None, time.perf_counter()
                due = looked - validated_at >= max(5.0, validation_s / _VALIDATION_SHARE)
                if self._looked_at and due and validation_s < 0.5 * self.deadline.remaining_s():
                    f1 = self._validate()
                    validated_at = time.perf_counter()
                    validation_s = validated_at - looked
                self._report(tally, f1)
                tally = Tally()
        self._report(tally, None)

    def _is_late(self, needed_s: float) -> bool:
        """Return True if `needed_s` seconds for a step and a checkpoint are not left; a first step may use all time."""
        if not self._step:
            return time.time() >= self.deadline.first_step_by
        return self.deadline.remaining_s() <= needed_s

    def _take(self, batches: Iterator[Coming]) -> list[Coming]:
        """Return the batches of the next step; empty if rows are not made in time."""
        try:
            return [next(batches) for _ in range(self._per_step)]
        except TransientError as error:
            self._ended_early = str(error)
            return []

    def _choose(self, corpus: ShardCorpus) -> None:
        """Measure the training speed of this machine, and set the batch size and the number of candidates per row."""
        chance = np.random.default_rng(self.settings.seed)
        measured = max(_MEASURED_ROWS, self._layout.tokens // 2)
        rows = corpus.take(corpus.block(0, self.settings.seed, 0, measured))
        composed = rows if self._compose is None else self._compose(rows, chance, False)
        needed = self.settings.max_epochs * len(corpus) * float(composed.lengths.mean())
        speeds: dict[int, float] = {}
        for tokens in self._sizes:
            self._use_batches(tokens)
            speeds[tokens] = self._measured_speed(composed, chance)
            time_s = max(0.0, self.deadline.remaining_s())
            if speeds[tokens] * time_s >= needed:
                break
        tokens = cpu_batch_tokens(speeds, needed=needed, time_s=time_s)
        self._use_batches(round(self._ranks.from_leader(tokens, self.device)))
        speed = speeds[tokens]
        if speed * time_s < len(corpus) * float(composed.lengths.mean()) and self._compose is not None:
            composed = self._compose(rows, chance, True)
        fits = speed * time_s / float(composed.lengths.mean())
        self._fits = self._ranks.from_leader(max(1.0, fits), self.device)
        self._choice = self._choice.fitted(rows=len(corpus), fits=self._fits)

    def _measured_speed(self, rows: TokenRows, chance: np.random.Generator) -> float:
        """Return the tokens per second of all processes together with batches of the present size."""
        planned = self._layout.plan(rows.lengths, chance)[:_MEASURED_BATCHES]
        batches = (self._execution.stage(self._layout.assemble(rows, each)) for each in planned)
        warm = min(_WARM_BATCHES[self.device.type], len(planned) - 1)
        speed = self._measure(batches, self._execution.backward, warm=warm) * self._ranks.world
        self._optimizer.zero_grad(set_to_none=True)
        return speed

    def _use_batches(self, tokens: int) -> None:
        """Use batches of `tokens` tokens from now on; scale the learning rates unless the settings give the size."""
        self._layout = replace(self._layout, tokens=tokens)
        self._execution.batch_tokens = tokens
        for group in self._optimizer.param_groups:
            group["peak"] = group["rate"] * (1.0 if self.settings.batch_tokens else rate_factor(tokens))

    def _keep_states(self) -> None:
        """Keep the output of frozen layers on a CPU if rows repeat; a GPU would have to wait for the copy."""
        again = self._choice.pool <= 1 and self.settings.max_epochs > 1
        if self._frozen and again and self.device.type == "cpu":
            width, rows = self.model.architecture.hidden, len(self._train)
            capacity = capacity_tokens(
                width=width, rows=rows, max_tokens=self.settings.max_tokens, available_bytes=available_bytes()
            )
            self._execution.states = FrozenStates(rows=rows, width=width, capacity=capacity)

    def _corrected(self, choice: Choice, left: int, coming: int) -> Choice:
        """Return the choice for the rest of a pass, from the speed of the loop; called in the thread of the batches.

        The choice changes only if not all rows fit, and only in a training with one process, because several processes
        would have to agree.
        """
        if choice.pool <= 1 or self._ranks.world > 1 or self._timed_from is None:
            return choice
        since_s, rows = self._timed_from
        elapsed_s = self.train_s - since_s
        if elapsed_s < _CORRECTED_FROM_S:
            return choice
        self._choice = choice.corrected(
            rows=left, fits=(self._rows - rows) / elapsed_s * self.deadline.remaining_s() - coming
        )
        return self._choice

    def _learn(self, batches: Sequence[Staged], rate: float) -> Tensor:
        """Make one step with this process's part of the batches; return the loss over all batches."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        rows = sum(batch.rows for batch in batches)
        loss = torch.zeros((), device=self.device)
        for batch in batches[self._ranks.rank :: self._ranks.world]:
            loss += self._execution.backward(batch, rows)
        loss = self._ranks.add_up(self._learning, loss)
        nn.utils.clip_grad_norm_(self._learning, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        decay = ema_decay(self._step + 1, self.settings.ema_horizon)
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._learning, 1.0 - decay)
        return loss

    def _progress(self) -> float:
        """Return the completed share of the training after the next step; 0 for the first step.

        Time counts from the end of the first step, so that loading, waiting and compiling do not shorten the warm-up of
        the learning rate. Time also counts while the run is stopped.
        """
        if self._rate_from is None:
            return 0.0
        whole = self.deadline.ends_at - self._rate_from
        elapsed = (time.time() - self._rate_from) / whole if whole > 0 else 1.0
        epochs = self.epochs * (self._step + 1) / self._step
        return progress(elapsed_share=elapsed, epoch_share=epochs / self.settings.max_epochs)

    def _validate(self) -> float:
        own = [parameter.detach().clone() for parameter in self._learning]
        with torch.no_grad():
            torch._foreach_copy_(self._learning, self._average)
        self.model.eval()
        with torch.inference_mode():
            found = [self._execution.logits(batch).argmax(2).flatten() for batch in self._looked_at]
            predicted = torch.cat(found).cpu().numpy()
        self.model.train()
        with torch.no_grad():
            torch._foreach_copy_(self._learning, own)
        labels = torch.cat([batch.targets.flatten() for batch in self._looked_at]).numpy()
        return task_f1(labels[labels != NO_LABEL], predicted[labels != NO_LABEL], self.model.task)

    def _staged(self, rows: TokenRows) -> list[Staged]:
        layout = replace(self._layout, tokens=_VALIDATION_TOKENS[self.device.type], full=False)
        rows = replace(rows, targets=None)
        plans = layout.plan(rows.lengths, np.random.default_rng(0))
        return [self._execution.stage(layout.assemble(rows, each)) for each in plans]

    def _report(self, tally: Tally, f1: float | None) -> None:
        if self._watch is None or not tally.steps:
            return
        self._watch(
            Progress(
                step=self._step,
                epoch=self.epochs,
                loss=tally.loss(),
                lr=max(group["lr"] for group in self._optimizer.param_groups),
                tokens_per_s=tally.tokens / max(tally.age_s(), 1e-9),
                elapsed_s=self.train_s,
                remaining_s=max(0.0, self.deadline.remaining_s()),
                validation_f1=f1,
                validation_pos_neg_f1=f1 if self.model.task.is_default else None,
            )
        )

    @property
    def train_s(self) -> float:
        """Seconds in the loop, earlier starts included, without pauses for packages."""
        return self._before_s + time.perf_counter() - self._begun - self._paused_s

    def result(self) -> TrainingResult:
        """Return the facts of the training so far."""
        train_s = self.train_s
        speed = self._tokens / max(train_s, 1e-9)
        needed = flops_per_token(
            self.model.architecture, self._tokens / max(1, self._rows), frozen=self._frozen,
            lower_share=self._execution.lower_share,
        )  # fmt: skip
        return TrainingResult(
            steps=self._step,
            epochs=self.epochs,
            rows=self._rows,
            tokens=self._tokens,
            train_s=train_s,
            resumed=self.resumed,
            precision="bf16" if self.dtype == torch.bfloat16 else "fp32",
            device=self.device.type,
            batch_tokens=self._execution.batch_tokens,
            tokens_per_s=round(speed, 1),
            mfu=round(speed * needed / (self._peak_flops * self._ranks.world), 4),
            choice={
                "rows": len(self._train),
                "rows_that_fit": round(self._fits),
                "candidates": round(self._choice.pool, 2),
            },
            ended_early=self._ended_early,
        )

    def _keep(self) -> None:
        if self._checkpoints is None or not self._ranks.leads:
            return
        self._checkpoints.save(
            self._step,
            {
                "learning": [parameter.detach().cpu() for parameter in self._learning],
                "average": [average.cpu() for average in self._average],
                "optimizer": self._optimizer.state_dict(),
                "position": list(self._position),
                "share": self._share,
                "counts": [self._step, self._rows, self._tokens],
                "train_s": self.train_s,
                "rate_from": self._rate_from,
                "ends_at": self.deadline.run_ends_at,
                "batch_tokens": self._layout.tokens,
                "rows": len(self._train),
                "fits": self._fits,
                "choice": self._choice.to_json(),
            },
        )

    def _restore(self) -> bool:
        state = None if self._checkpoints is None else self._checkpoints.load()
        if state is None or state["rows"] != len(self._train) or len(state["learning"]) != len(self._learning):
            return False
        with torch.no_grad():
            for mine, kept in ((self._learning, state["learning"]), (self._average, state["average"])):
                for value, other in zip(mine, kept, strict=True):
                    value.copy_(other)
        self._optimizer.load_state_dict(state["optimizer"])
        if "batch_tokens" in state:  # missing in checkpoints of earlier releases
            self._use_batches(int(state["batch_tokens"]))
        self._share = float(state["share"])
        self._step, self._rows, self._tokens = state["counts"]
        self._before_s = float(state["train_s"])
        same_run = state.get("ends_at") == self.deadline.run_ends_at  # the downtime of another run does not count
        self._rate_from = float(state["rate_from"]) if same_run else time.time() - self._before_s
        self._fits, self._choice = float(state["fits"]), Choice.from_json(state["choice"])
        self._position = Position.restored(state["position"], self._choice)
        return True


def _sample(rows: TokenRows, seed: int) -> TokenRows:
    if len(rows) <= _VALIDATION_ROWS:
        return rows
    return rows.take(np.random.default_rng(seed).choice(len(rows), _VALIDATION_ROWS, replace=False))
