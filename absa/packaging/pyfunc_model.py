"""The MLflow model, as code: MLflow runs this file where the model is loaded. Needs absa.inference, mlflow and pandas.

It is the one module that does something when it is imported, because MLflow's models from code ask for `set_model`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from absa.inference.engine import Engine
from absa.task import sentiment

if TYPE_CHECKING:
    from mlflow.pyfunc import PythonModelContext


class AspectSentiment(PythonModel):  # type: ignore[misc]
    """From a frame with text and aspect to one with label, sentiment, scores and truncated, on the same index."""

    _engine: Engine

    def load_context(self, context: "PythonModelContext") -> None:
        """Load the package that travels as the model's artifacts."""
        self._engine = Engine.load(Path(context.artifacts["model.onnx"]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Score every row; scores are in the order negative, neutral, positive.

        `truncated` is True where a text was too long and was cut around the aspect.
        """
        pairs = list(zip(model_input["text"].astype(str), model_input["aspect"].astype(str), strict=True))
        encoded = self._engine.tokenizer.encode(pairs)
        scores = self._engine.score_encoded(encoded)
        labels = [int(label) for label in scores.argmax(axis=1)]
        return pd.DataFrame(
            {
                "label": labels,
                "sentiment": [sentiment(label) for label in labels],
                "scores": scores.tolist(),
                "truncated": [each.truncated for each in encoded],
            },
            index=model_input.index,
        )


mlflow.models.set_model(AspectSentiment())
