"""One int8 model behind BentoML: `bentoml serve benchmarks.router.peers.bentoml_server:Peer`; WORKERS processes."""

import os

import bentoml

from absa.inference.engine import Engine


@bentoml.service(workers=int(os.environ.get("WORKERS", "2")), traffic={"timeout": 60})
class Peer:
    """A row a request in, its label out."""

    def __init__(self) -> None:
        self._engine = Engine.load(os.environ["PACKAGE"])

    @bentoml.api(route="/v1/predict")  # type: ignore[untyped-decorator]
    def predict(self, text: str, aspect: str, unit_id: str = "") -> dict[str, int]:  # noqa: ARG002
        """The label of one row, in a pool of threads."""
        return {"label": int(self._engine.score([(text, aspect)])[0].argmax())}
