"""The write-ahead log on the local disk: each worker appends to open segments, the parent claims closed ones.

    spool/open/<incarnation>/<stream>-<number>.log     written by a living worker, which holds `.lock`
    spool/ready/<stream>.<incarnation>-<number>.log    closed: nothing more is added
    spool/claims/<stream>.<name>/...                   being shipped under <name>; shipping it twice gives the same keys
    spool/aside/<stream>.<incarnation>-<number>.log    written by a newer release; claimed again by the next start

A move between these folders is one `rename`, so after a kill each segment is in exactly one folder. `write` passes the
bytes to the operating system before the answer is sent: `kill -9` loses nothing; the loss of the machine loses the
segments that were not shipped.
"""

import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from absa.errors import ConflictError

PREDICTION_LOG: Final = "predictions"
FEEDBACK_LOG: Final = "feedback"
OUTCOME_LOG: Final = "outcomes"
MINUTE_US: Final = 60_000_000

_SEGMENT_BYTES: Final = 16 * 1024 * 1024
_LOCK: Final = ".lock"
_STARTING_S: Final = 5.0  # a worker creates its folder just before it locks it


class Segment:
    """One stream of one worker. Not safe for several threads.

    Args:
        folder: the worker's folder under `open`.
        stream: name of the stream; it may have a part after a dot (`outcomes.<minute>`).
        numbers: numbers of the worker's files, so that a reopened stream never reuses a name.
    """

    def __init__(self, folder: Path, stream: str, numbers: Iterator[int]) -> None:
        self._folder, self._stream, self._numbers = folder, stream, numbers
        self._handle: int | None = None
        self._size = 0
        self.path: Path | None = None  # path of the open file
        self._torn = False

    @property
    def size(self) -> int:
        """Bytes in the open segment."""
        return self._size

    def append(self, lines: bytes) -> bool:
        """Pass whole lines to the operating system.

        Returns:
            True if the lines were written; False if the disk is full. The segment stays readable then.
        """
        data = b"\n" + lines if self._torn else lines
        try:
            if self._handle is None:
                self._open()
            assert self._handle is not None
            written = os.write(self._handle, data)
        except OSError:
            written = -1
        if written == len(data):
            self._size += written
            self._torn = False
            if self._size >= _SEGMENT_BYTES:
                self.close()
            return True
        if written > 0 and self._handle is not None:
            try:
                os.ftruncate(self._handle, self._size)
            except OSError:
                self._size += written
                self._torn = True
        return False

    def _open(self) -> None:
        path = self._folder / f"{self._stream}-{next(self._numbers):08d}.log"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.path = path
        self._size = 0
        self._torn = False

    def close(self) -> None:
        """Close the file; the next lines go into a new one."""
        handle, self._handle, self.path = self._handle, None, None
        if handle is not None:
            with suppress(OSError):  # the handle is closed even if a failing disk lost data
                os.close(handle)


class SpoolWriter:
    """A worker's part of the spool.

    Args:
        root: the spool's folder.
        incarnation: unique name of this worker process: letters, digits and `_`.
        limit_bytes: largest size of the whole spool; a larger spool is `full` and refuses lines. With 0 it always is.
    """

    def __init__(self, root: Path, incarnation: str, *, limit_bytes: float) -> None:
        self._root = root
        self._folder = root / "open" / incarnation
        self._ready = root / "ready"
        self._folder.mkdir(parents=True)
        self._ready.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._limit_bytes = limit_bytes
        self.full = limit_bytes <= 0
        self._numbers = itertools.count(1)
        self._segments = {name: self._segment(name) for name in (PREDICTION_LOG, FEEDBACK_LOG)}
        self._outcomes: Segment | None = None
        self._outcome_minute = 0
        self.dropped = dict.fromkeys((PREDICTION_LOG, FEEDBACK_LOG, OUTCOME_LOG), 0)
        self.appended_bytes = 0

    def _segment(self, stream: str) -> Segment:
        return Segment(self._folder, stream, self._numbers)

    def append(self, stream: str, lines: bytes, rows: int) -> bool:
        """Write lines before their answers are sent. If spool or disk is full, count `dropped` rows; return False."""
        if not self.full and self._segments[stream].append(lines):
            self.appended_bytes += len(lines)
            return True
        self.dropped[stream] += rows
        return False

    def append_outcomes(self, minute_us: int, lines: bytes, rows: int) -> bool:
        """Write counts of one minute, like `append`. A segment holds one minute."""
        if self._outcomes is None or minute_us != self._outcome_minute:
            self._close_outcomes()
            with suppress(OSError):  # `rotate` tries again
                self._hand_over()
            self._outcomes = self._segment(f"{OUTCOME_LOG}.{minute_us}")
            self._outcome_minute = minute_us
        if self._outcomes.append(lines):
            return True
        self.dropped[OUTCOME_LOG] += rows
        return False

    def rotate(self) -> None:
        """Close the open segments, so that they can be shipped, and check the size of the spool.

        Raises:
            OSError: a closed segment cannot be moved; the next call tries again.
        """
        self.full = self._limit_bytes <= 0 or spool_bytes(self._root) > self._limit_bytes
        for segment in self._segments.values():
            segment.close()
        if self._outcomes is not None and time.time_ns() // 1000 >= self._outcome_minute + MINUTE_US:
            self._close_outcomes()
        self._hand_over()

    def close(self) -> None:
        """Close all segments and remove the folder. `SpoolReader.recover` moves segments that are left."""
        for segment in self._segments.values():
            segment.close()
        self._close_outcomes()
        with suppress(OSError):
            self._hand_over()
            (self._folder / _LOCK).unlink(missing_ok=True)
            self._folder.rmdir()
        os.close(self._lock)

    def _close_outcomes(self) -> None:
        if self._outcomes is not None:
            self._outcomes.close()
            self._outcomes = None

    def _hand_over(self) -> None:
        """Move closed segments to `ready`, where the parent claims them."""
        segments = [*self._segments.values(), *([self._outcomes] if self._outcomes is not None else [])]
        being_written = {segment.path for segment in segments}
        for path in sorted(self._folder.glob("*.log")):
            if path not in being_written:
                path.rename(_ready_path(self._ready, self._folder.name, path.name))


class SpoolReader:
    """The parent's part of the spool: recover segments of dead workers, claim closed ones.

    Args:
        root: the spool's folder.
        claim_bytes: approximate size of a claim.
    """

    def __init__(self, root: Path, *, claim_bytes: int = 64 * 1024 * 1024) -> None:
        self._root = root
        self._ready = root / "ready"
        self._claims = root / "claims"
        self._done = root / "done"
        self._aside = root / "aside"
        for folder in (self._ready, self._claims, self._done, self._aside, root / "open"):
            folder.mkdir(parents=True, exist_ok=True)
        self._claim_bytes = claim_bytes
        self._last_number = 0

    def recover(self) -> int:
        """Close the segments of dead workers. Return their number."""
        found = 0
        for folder in sorted((self._root / "open").iterdir()):
            if not any(folder.glob("*.log")) and time.time() - folder.stat().st_mtime < _STARTING_S:
                continue
            lock = os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            for path in sorted(folder.glob("*.log")):
                path.rename(_ready_path(self._ready, folder.name, path.name))
                found += 1
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
            os.close(lock)
        return found

    def claim(self, replica: str, *, everything: bool = False) -> None:
        """Move closed segments into claims, each with the name that its Parquet files will have.

        Args:
            replica: first part of the name.
            everything: also claim counts of minutes that are not over (when the replica stops).
        """
        for stream in (PREDICTION_LOG, FEEDBACK_LOG):
            for paths in self._batches(sorted(self._ready.glob(f"{stream}.*.log"), key=_age)):
                self._move(stream, f"{replica}-{self._number()}", paths)
        minutes: dict[int, list[Path]] = {}
        for path in sorted(self._ready.glob(f"{OUTCOME_LOG}.*.log")):
            minutes.setdefault(int(path.name.split(".")[1]), []).append(path)
        for minute_us, paths in minutes.items():
            over = time.time_ns() // 1000 >= minute_us + MINUTE_US + 3_000_000
            if over or everything:
                stamp = time.strftime("%Y%m%dT%H%M", time.gmtime(minute_us // 1_000_000))
                marker = self._done / f"{OUTCOME_LOG}-{stamp}"
                late = marker.exists() or any(self._claims.glob(f"{OUTCOME_LOG}.{replica}-{stamp}*"))
                marker.touch()
                self._move(OUTCOME_LOG, f"{replica}-{stamp}" + (f"-{self._number()}" if late else ""), paths)
        for marker in self._done.iterdir():
            if time.time() - marker.stat().st_mtime > 7200:
                marker.unlink()

    def _batches(self, paths: list[Path]) -> Iterator[list[Path]]:
        batch: list[Path] = []
        size = 0
        for path in paths:
            batch.append(path)
            size += path.stat().st_size
            if size >= self._claim_bytes:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _number(self) -> int:
        """Return a new segment number: microseconds since 1970, always larger than the last one."""
        self._last_number = max(self._last_number + 1, time.time_ns() // 1000)
        return self._last_number

    def _move(self, stream: str, name: str, paths: list[Path]) -> None:
        # A kill here leaves a claim with fewer segments. It is shipped without the others, which get a new claim.
        folder = self._claims / f"{stream}.{name}"
        folder.mkdir()
        for path in paths:
            path.rename(folder / path.name)

    def claims(self) -> list[tuple[str, str, Path]]:
        """Return the claims to ship: stream, name of the files, folder with segments."""
        found = []
        for folder in sorted(self._claims.iterdir()):
            stream, _, name = folder.name.partition(".")
            found.append((stream, name, folder))
        return found

    @staticmethod
    def segments(folder: Path) -> list[Path]:
        """Return a claim's segments, in a fixed order."""
        return sorted(folder.glob("*.log"))

    def keep_aside(self, segment: Path) -> None:
        """Move a segment that this release cannot read out of its claim."""
        segment.rename(self._aside / segment.name)

    def take_back(self) -> None:
        """Make the segments in `aside` ready to be claimed again, because this release may read them."""
        for path in sorted(self._aside.glob("*.log")):
            path.rename(self._ready / path.name)

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove a claim whose rows are in the lake. After a kill, `sweep` removes the leftovers."""
        trash = folder.parent.parent / f"trash-{folder.name}"
        folder.rename(trash)
        shutil.rmtree(trash)

    def sweep(self) -> None:
        """Remove leftovers of a `discard` that was killed."""
        for trash in self._root.glob("trash-*"):
            shutil.rmtree(trash)

    def oldest_s(self) -> float:
        """Return the age in seconds of the oldest closed segment of predictions not in the lake; 0 without one."""
        times = []
        for path in (*self._ready.glob(f"{PREDICTION_LOG}.*.log"), *self._claims.glob(f"{PREDICTION_LOG}.*/*.log")):
            with suppress(FileNotFoundError):  # shipped in the meantime
                times.append(path.stat().st_mtime)
        return max(0.0, time.time() - min(times)) if times else 0.0


class ReplicaLock:
    """Lock of a replica's folder: only one parent can hold it.

    Raises:
        ConflictError: another router holds it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise ConflictError(
                f"another router runs as replica {folder.name}; stop it, or set EVERGREEN_REPLICA to another name"
            ) from None

    def release(self) -> None:
        """Release the lock."""
        os.close(self._handle)


def _ready_path(ready: Path, incarnation: str, name: str) -> Path:
    stream, _, rest = name.rpartition("-")
    return ready / f"{stream}.{incarnation}-{rest}"


def _age(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name


def spool_bytes(root: Path) -> int:
    """Return the size of the spool in bytes; files that are removed meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
