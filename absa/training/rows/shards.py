"""Token shards: token ids of a snapshot's side on disk, one file per Parquet part, mapped into memory.

A shard is a safetensors file of flat arrays, of which only the header is read at first. The parts of a snapshot are cut
and sorted by the hash of their texts. So every shard, and every part of a shard, is a random sample of the data, and a
training can start with the first shard while more shards are made.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError, InvalidDataError, TransientError
from absa.inference.excerpt import CUT_RULE
from absa.inference.tokenization import Template
from absa.task import ABSA, TaskSpec
from absa.training.rows.tokens import Index, TokenRows, stack

PLAN_FILE: Final = "plan.json"
FAILED_FILE: Final = "failed.txt"  # error of the process that makes the shards
_OPEN_SHARDS: Final = 8  # mapped at a time; more would only cost address space
_POLL_S: Final = 0.05
_PATIENCE_S: Final = 120.0  # longest wait for a shard: after it, the process that makes shards hangs or was killed


@dataclass(frozen=True, kw_only=True)
class TokenPlan:
    """Plan of a side's shards, written before the shards. `rows` has the number of rows of each shard."""

    snapshot: str
    tokenizer: str
    side: str
    max_tokens: int
    rows: tuple[int, ...]
    task: TaskSpec = ABSA
    schema_version: int = 1

    def to_json(self) -> str:
        """Return the content of plan.json."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the plan beside the shards.

        Raises:
            InvalidDataError: the plan is missing or has another form.
        """
        try:
            values = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
            known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
            rows = tuple(int(count) for count in values["rows"])
            return cls(**known | {"rows": rows, "task": TaskSpec.from_json(values.get("task"))})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidDataError(f"{folder / PLAN_FILE} cannot be used: {type(error).__name__}") from error


def tokenizer_digest(tokenizer_json: bytes, max_tokens: int) -> str:
    """Return the digest of everything that ids depend on: tokenizer, largest number of tokens, and cut rule."""
    return hashlib.sha256(tokenizer_json + f":{max_tokens}:{CUT_RULE}".encode()).hexdigest()


def shard_name(side: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{side}-{number:05d}.safetensors"


def pack_shard(rows: TokenRows) -> bytes:
    """Return a shard's content in the format of safetensors. Times of observation are rounded up to seconds."""
    from safetensors.numpy import save

    observed = np.zeros(len(rows)) if rows.observed is None else np.ceil(rows.observed)
    arrays = {name: getattr(rows, name) for name in ("texts", "aspects", "labels")}
    ends = {"text_ends": rows.text_ends, "aspect_ends": rows.aspect_ends, "observed": observed}
    arrays |= {name: values.astype(np.uint32) for name, values in ends.items()}
    content: bytes = save(
        {name: np.ascontiguousarray(values) for name, values in arrays.items()},
        metadata={"special": json.dumps(rows.special)},
    )
    return content


def open_shard(path: Path) -> TokenRows:
    """Map a shard into memory; ids are read from disk when they are used.

    Raises:
        IntegrityError: the file is cut off or is not a shard.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:  # torch maps the file; numpy would copy it
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - no dictionary
            special = file.metadata()
        ends = {name: values.astype(np.int64) for name, values in arrays.items() if name.endswith("_ends")}
        return TokenRows(**arrays | ends, special=_special(special))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"the token shard {path.name} cannot be used: {error}") from error


def _special(metadata: Mapping[str, str]) -> Template:
    if "special" in metadata:
        return Template(*(tuple(map(int, part)) for part in json.loads(metadata["special"])))
    return Template.bert(int(metadata["first"]), int(metadata["separator"]))  # in shards of earlier releases


def open_shards(folder: Path, tokenizer: Path, max_tokens: int, *, left_s: Callable[[], float]) -> "ShardCorpus":
    """Return a side's rows, after a check that they were made with the tokenizer.

    Raises:
        InvalidDataError: there is no plan, it has no rows, or the shards were made with another tokenizer.
    """
    corpus = ShardCorpus(folder, left_s=left_s)
    if corpus.plan.tokenizer != tokenizer_digest(tokenizer.read_bytes(), max_tokens):
        raise InvalidDataError(f"the token shards in {folder} were made with another tokenizer or max_tokens")
    return corpus


def write_shard(
    folder: Path, rows: TokenRows, tokenizer: Path, max_tokens: int, *, snapshot: str = "", task: TaskSpec = ABSA
) -> None:
    """Write rows as the train side in one shard with its plan; for few rows."""
    digest = tokenizer_digest(tokenizer.read_bytes(), max_tokens)
    plan = TokenPlan(
        snapshot=snapshot, tokenizer=digest, side="train", max_tokens=max_tokens, rows=(len(rows),), task=task
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / shard_name("train", 0)).write_bytes(pack_shard(rows))
    (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")


class ShardCorpus:
    """Rows of a side in shards, some of which may not be made yet. Row numbers count over all shards.

    Args:
        folder: folder with the plan and the shards.
        left_s: returns the seconds left, the longest wait for a missing shard.

    Raises:
        InvalidDataError: there is no plan, or it has no rows.
    """

    def __init__(self, folder: Path, *, left_s: Callable[[], float] = lambda: _PATIENCE_S) -> None:
        self._folder, self._left_s = folder, left_s
        self.plan = TokenPlan.read(folder)
        self.bounds = np.concatenate([[0], np.cumsum(self.plan.rows)]).astype(np.int64)
        if not self.bounds[-1]:
            raise InvalidDataError(f"the token shards of snapshot {self.plan.snapshot[:12]} hold no rows")
        self._open: OrderedDict[int, TokenRows] = OrderedDict()

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def take(self, rows: Index) -> TokenRows:
        """Return some of the rows, in that order.

        Raises:
            TransientError: a shard is not made in time, or the process that makes it has failed.
            IntegrityError: a shard is broken.
        """
        rows = np.asarray(rows, dtype=np.int64)
        shards = np.searchsorted(self.bounds, rows, side="right") - 1
        numbers = np.unique(shards) if len(rows) else np.zeros(1, np.int64)
        if len(numbers) == 1:
            return self._shard(int(numbers[0])).take(rows - self.bounds[numbers[0]])
        parts, places = [], []
        for number in numbers:
            here = np.flatnonzero(shards == number)
            parts.append(self._shard(int(number)).take(rows[here] - self.bounds[number]))
            places.append(here)
        return stack(parts).take(np.argsort(np.concatenate(places)))

    def observed(self, rows: Index) -> npt.NDArray[np.float64] | None:
        """Return the observation times of some rows without reading their tokens; None if unknown."""
        shards = np.searchsorted(self.bounds, rows, side="right") - 1
        found = np.zeros(len(rows))
        for number in np.unique(shards):
            seen = self._shard(int(number)).observed
            if seen is None:
                return None
            here = shards == number
            found[here] = seen[rows[here] - self.bounds[number]]
        return found

    def block(self, epoch: int, seed: int, start: int, stop: int) -> Index:
        """Return the numbers of rows [start, stop) of a pass. The first pass has the shards in order of making."""
        order = np.arange(len(self.plan.rows))
        if epoch:
            order = np.random.default_rng((seed, epoch)).permutation(order)
        ends = np.cumsum(np.asarray(self.plan.rows)[order])
        found, begin = [], 0
        for number, end in zip(order, ends, strict=True):
            low, high = max(start, begin), min(stop, int(end))
            if low < high:
                offset = int(self.bounds[number]) - begin
                found.append(np.arange(low + offset, high + offset))
            begin = int(end)
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _shard(self, number: int) -> TokenRows:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path, failed = self._folder / shard_name(self.plan.side, number), self._folder / FAILED_FILE
        limit = time.monotonic() + min(_PATIENCE_S, max(0.0, self._left_s()))
        while not path.exists():
            if failed.exists():
                raise TransientError(failed.read_text(encoding="utf-8"))
            if time.monotonic() >= limit:
                raise TransientError(f"token shard {number} of snapshot {self.plan.snapshot[:12]} was not made in time")
            time.sleep(_POLL_S)
        rows = open_shard(path)
        if len(rows) != self.plan.rows[number]:
            raise IntegrityError(f"token shard {path.name}: expected {self.plan.rows[number]} rows, got {len(rows)}")
        self._open[number] = rows
        while len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)
        return rows


Corpus = TokenRows | ShardCorpus
"""Rows to learn from: few rows in memory, or shards on disk."""
