"""The MLflow model, as code: MLflow runs this file where the model is loaded. Needs absa.inference, mlflow and pandas.

It is the one module that does something when it is imported, because MLflow's models from code ask for `set_model`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from absa.inference.engine import Engine
from absa.task import ABSA

if TYPE_CHECKING:
    from mlflow.pyfunc import PythonModelContext


class TextClassifier(PythonModel):  # type: ignore[misc]
    """From a frame with the task's columns to one with label, name, scores and truncated, on the same index.

    The columns are `text`, and `aspect` or `topic` where the task takes one. The default task answers `sentiment` too,
    which repeats `name`.
    """

    _engine: Engine

    def load_context(self, context: "PythonModelContext") -> None:
        """Load the package that travels as the model's artifacts."""
        self._engine = Engine.load(Path(context.artifacts["model.onnx"]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Score every row; scores are in the order of the task's labels.

        `truncated` is True where a part of the text was left out.
        """
        task = self._engine.task
        texts = model_input["text"].astype(str)
        phrases = [None] * len(texts) if task.phrase is None else model_input[task.phrase].astype(str)
        encoded = self._engine.tokenizer.encode(list(zip(texts, phrases, strict=True)))
        scores = self._engine.score_encoded(encoded)
        labels = [int(label) for label in scores.argmax(axis=1)]
        names = [task.labels[label] for label in labels]
        answers: dict[str, list[Any]] = {"label": labels, "name": names}
        if task.extends(ABSA):
            answers["sentiment"] = names
        answers |= {"scores": scores.tolist(), "truncated": [each.truncated for each in encoded]}
        return pd.DataFrame(answers, index=model_input.index)


mlflow.models.set_model(TextClassifier())
