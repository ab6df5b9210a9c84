"""Token shards of a snapshot: existing, made at once if rows are few, or made by a process beside the training."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from absa.adapters.lake_stores import FolderLake
from absa.records.files import write_whole
from absa.records.lake import Lake
from absa.training.rows.shards import FAILED_FILE, PLAN_FILE, TokenPlan, shard_name

LOG: Final = Path("logs", "token_shards.log")  # in the home
_SHOWN_CHARS: Final = 300


class ShardMaker:
    """Process that makes token shards. If it fails, it writes the cause to the folder in which a training waits.

    The workers of the process end with it.

    Args:
        command: command of the process.
        folder: folder of the shards.
        log: file for its standard error.
        environment: environment of the process.
    """

    def __init__(self, command: Sequence[str], folder: Path, *, log: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._log, self._stopped = folder, log, False
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._begins = errors.tell()
            self._process = subprocess.Popen(  # noqa: S603  our own module
                command, stderr=errors, env=dict(environment), start_new_session=True
            )
        self._watch = threading.Thread(target=self._leave_cause, name="token-shards", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Stop the process and its workers; complete shards stay."""
        self._stopped = True
        self._process.terminate()
        self._watch.join()

    def _leave_cause(self) -> None:
        code = self._process.wait()
        if code == 0:
            return
        with suppress(ProcessLookupError):  # otherwise the workers of its pool would wait forever
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._stopped:
            return
        with self._log.open("rb") as errors:
            errors.seek(self._begins)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        said = f"{lines[-1][:_SHOWN_CHARS]}; see {self._log}" if lines else "it gave no reason"
        sentence = f"the process that makes token shards ended (exit {code}): {said}"
        write_whole(self._folder / FAILED_FILE, sentence)


@dataclass(frozen=True)
class Shards:
    """Folder of token shards, and the process that makes the missing ones."""

    folder: Path
    maker: ShardMaker | None = None

    def stop(self) -> None:
        """Stop the process; complete shards stay, and the next training makes the missing ones."""
        if self.maker is not None:
            self.maker.stop()


@contextmanager
def shards_of(
    lake: Lake, snapshot: str, tokenizer: Path, max_tokens: int, *, cache: Path, environment: Mapping[str, str]
) -> Iterator[Shards]:
    """Provide a snapshot's token shards; some may still be made while the body runs.

    Args:
        lake: holds the snapshot and keeps the shards.
        snapshot: digest of the snapshot.
        tokenizer: path of tokenizer.json.
        max_tokens: most tokens of a pair.
        cache: local folder for the log, and for copies if the lake is not a folder.
        environment: environment of the process that makes shards.
    """
    from absa.data.token_shards import SMALL_ROWS, make_shards, plan_shards
    from absa.records.layout import shards_prefix

    plan = plan_shards(lake, snapshot, tokenizer, max_tokens)
    prefix = shards_prefix(plan.snapshot, plan.tokenizer)
    local = isinstance(lake, FolderLake)
    folder = Path(lake.url(prefix)) if local else cache / prefix.strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    (folder / FAILED_FILE).unlink(missing_ok=True)
    into = None if local else folder
    maker = None
    if sum(plan.rows) < SMALL_ROWS:
        make_shards(lake, plan, tokenizer, into=into)
    elif not _whole(folder, plan):
        command = [sys.executable, "-m", "absa.data.token_shards", "--lake", lake.uri, "--snapshot", plan.snapshot]
        command += ["--tokenizer", str(tokenizer), "--max-tokens", str(max_tokens)]
        command += ["--into", str(into)] if into else []
        maker = ShardMaker(command, folder, log=cache / LOG, environment=environment)
    shards = Shards(folder, maker)
    try:
        yield shards
    finally:
        shards.stop()


def _whole(folder: Path, plan: TokenPlan) -> bool:
    return all((folder / shard_name(plan.side, number)).exists() for number in range(len(plan.rows)))
