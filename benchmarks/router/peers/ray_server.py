"""One int8 model behind Ray Serve, with its batching: `python -m benchmarks ray_server PORT WORKERS`."""

import os
import sys
import time
from typing import Any

import ray
from ray import serve

from absa.inference.engine import Engine


@serve.deployment(max_ongoing_requests=128)
class Peer:
    """A row a request in, its label out."""

    def __init__(self) -> None:
        self._engine = Engine.load(os.environ["PACKAGE"])

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def score(self, pairs: list[tuple[str, str]]) -> list[int]:
        """Labels of a batch."""
        return [int(label) for label in self._engine.score(pairs).argmax(axis=1)]

    async def __call__(self, request: Any) -> dict[str, int]:
        """The label of one row."""
        question = await request.json()
        return {"label": await self.score((question["text"], question["aspect"]))}


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # one CPU more than there are: Ray Serve's own actors need one to be scheduled at all
    ray.init(address="local", num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Peer.options(num_replicas=workers).bind(), route_prefix="/v1/predict")
    while True:
        time.sleep(60)
