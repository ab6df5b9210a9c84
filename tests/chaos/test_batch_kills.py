"""A batch that is killed at random times, the job or one of its workers, ends with every row once.

Twice in 30 partitions here (on Ray once, a worker); `make test-kills` kills 20 times in 200, local and on Ray.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.datasets.batch_kills import kill_batches

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make ray")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("engine", "kills"), [("local", 2), pytest.param("ray", 1, marks=needs_ray)])
def test_killed_batch_verifies_each_time(engine: str, kills: int, tmp_path: Path) -> None:
    found = list(kill_batches(engine, kills=kills, partitions=30, folder=tmp_path))
    assert [each.wrong for each in found] == [()] * kills
    assert all(each.went_on for each in found if each.victim == "worker")
