"""Token shards of a snapshot: existing ones, made at once if rows are few, or by a process beside the training."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from absa.adapters.lake_stores import FolderLake
from absa.records.lake import Lake
from absa.training.rows.shards import PLAN_FILE, TokenPlan, shard_name


@dataclass(frozen=True)
class Shards:
    """Folder of token shards, and the process that still makes some of them."""

    folder: Path
    maker: "subprocess.Popen[bytes] | None" = None

    def stop(self) -> None:
        """Stop the process; complete shards stay, and the next training makes the rest."""
        if self.maker is not None and self.maker.poll() is None:
            self.maker.terminate()
            self.maker.wait()


@contextmanager
def shards_of(
    lake: Lake, snapshot: str, tokenizer: Path, max_tokens: int, *, cache: Path, environment: Mapping[str, str]
) -> Iterator[Shards]:
    """Provide a snapshot's token shards; some may still be made while the body runs.

    Args:
        lake: holds the snapshot and keeps the shards.
        snapshot: its digest.
        tokenizer: the tokenizer.json.
        max_tokens: most tokens of a pair.
        cache: local folder for copies where the lake is not a folder.
        environment: of the process that makes them.
    """
    from absa.data.token_shards import SMALL_ROWS, make_shards, plan_shards
    from absa.records.layout import shards_prefix

    plan = plan_shards(lake, snapshot, tokenizer, max_tokens)
    prefix = shards_prefix(plan.snapshot, plan.tokenizer)
    local = isinstance(lake, FolderLake)
    folder = Path(lake.url(prefix)) if local else cache / prefix.strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    into = None if local else folder
    maker = None
    if sum(plan.rows) < SMALL_ROWS:
        make_shards(lake, plan, tokenizer, into=into)
    elif not _whole(folder, plan):
        command = [sys.executable, "-m", "absa.data.token_shards", "--lake", lake.uri, "--snapshot", plan.snapshot]
        command += ["--tokenizer", str(tokenizer), "--max-tokens", str(max_tokens)]
        maker = subprocess.Popen(command + (["--into", str(into)] if into else []), env=dict(environment))  # noqa: S603
    shards = Shards(folder, maker)
    try:
        yield shards
    finally:
        shards.stop()


def _whole(folder: Path, plan: TokenPlan) -> bool:
    return all((folder / shard_name(plan.side, number)).exists() for number in range(len(plan.rows)))
