"""MLflow model as code: MLflow runs this file to load the model. Needs absa.inference, mlflow and pandas.

This is the only module with an effect at import: MLflow's models from code require a call of `set_model`.
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
    """Model that returns a frame with label, name, scores and truncated for a frame with the task's columns.

    Both frames have the same index. The input has the column `text`, and `aspect` or `topic` if the task has one. For
    the default task, the result also has `sentiment`, which repeats `name`.
    """

    _engine: Engine

    def load_context(self, context: "PythonModelContext") -> None:
        """Load the package from the model's artifacts."""
        self._engine = Engine.load(Path(context.artifacts["model.onnx"]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Score every row; scores are in the order of the task's labels.

        `truncated` is True for rows of whose text a part was left out.
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
