"""One int8 model behind LitServe, with its batching: `python -m benchmarks litserve_server PORT WORKERS`."""

import os
import sys
from typing import Any

import litserve

from absa.inference.engine import Engine


class Peer(litserve.LitAPI):  # type: ignore[misc]
    """A row a request in, its label out."""

    def setup(self, _device: str) -> None:
        """Load the model, once a worker."""
        self._engine = Engine.load(os.environ["PACKAGE"])

    def decode_request(self, request: dict[str, str]) -> tuple[str, str]:
        """The pair that a request asks about."""
        return request["text"], request["aspect"]

    def batch(self, inputs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Pairs are scored as they come."""
        return list(inputs)

    def predict(self, pairs: list[tuple[str, str]]) -> list[int]:
        """Labels of a batch."""
        return [int(label) for label in self._engine.score(pairs).argmax(axis=1)]

    def unbatch(self, output: list[int]) -> list[int]:
        """A label a request."""
        return output

    def encode_response(self, output: int) -> dict[str, Any]:
        """Return the customer's answer."""
        return {"label": output}


if __name__ == "__main__":
    api = Peer(max_batch_size=16, batch_timeout=0.002, api_path="/v1/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[2]), timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
