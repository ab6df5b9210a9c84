"""Speed of this machine at training, with its load: `python -m flows.demo.machine_speed` prints tokens per second.

A process of its own measures it, so that torch and its threads do not stay in the process of the demo.
"""

import os
import subprocess
import sys
import time
from typing import Final

from absa.errors import PermanentError

_REFERENCE: Final = 14_000.0  # tokens per second of one layer, on machines for which the budgets of the demo are enough
_MOST: Final = 6.0
_MEASURED_S: Final = 1.0
_WIDTH, _HEADS, _LINES, _TOKENS = 384, 12, 2, 128  # of a layer of MiniLM, and of a batch


def slowdown() -> float:
    """Measure how many times slower than the reference machine this one trains now, 1 to 6.

    A slow processor and other processes count alike. The measurement takes about four seconds.

    Raises:
        PermanentError: the measurement failed.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ  # as in a training
    command = [sys.executable, "-m", "flows.demo.machine_speed"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode:
        raise PermanentError(f"the speed of this machine cannot be measured: {ended.stderr.strip()[-300:]}")
    return min(_MOST, max(1.0, _REFERENCE / float(ended.stdout)))


def layer_speed() -> float:
    """Return the speed at which one transformer layer learns on all cores, in tokens per second."""
    import torch

    layer = torch.nn.TransformerEncoderLayer(_WIDTH, _HEADS, 4 * _WIDTH, dropout=0.0, batch_first=True)
    batch = torch.randn(_LINES, _TOKENS, _WIDTH)

    def step() -> None:
        layer(batch).sum().backward()
        layer.zero_grad()

    for _ in range(3):  # the first steps allocate memory
        step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < _MEASURED_S:
        step()
        steps += 1
    return steps * _LINES * _TOKENS / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.stdout.write(f"{layer_speed()}\n")
