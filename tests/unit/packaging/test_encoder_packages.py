"""An encoder of any family as a package: its graph gives what the model gives, int8 and engine included."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from absa.inference.engine import Engine, softmax
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base, load_base
from absa.modeling.head import Classifier
from absa.packaging.build import QUICK, build_package
from absa.packaging.export import INPUTS, Float32
from absa.packaging.graphs import graph_of
from absa.packaging.quantize import Int8Products, observe_products
from absa.training.deadline import Deadline
from absa.training.rows.distill import score_as_teacher
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings
from tests.tiny_encoders import FAMILIES, rows, save_family

PAIRS = [LabelledPair(*row) for row in rows()[:60]]
SCORES_WITHIN = 0.03  # int8 scores beside fp32 scores of an untrained encoder


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A classifier with an untrained head that has an opinion, and the folder of its base."""
    folder = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "cache"))
        save_family(request.param, folder / request.param)
        base = find_base(str(folder / request.param))
    model, _ = load_base(base, dropout=0.0)
    assert model.mark is not None
    torch.nn.init.normal_(model.mark, std=0.05)  # words have 0.02
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    return model.eval(), base


def test_traced_graph_equals_model_for_each_shape(made: tuple[Classifier, Path]) -> None:
    model, _ = made
    graph = graph_of(model)(Float32()).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == set(INPUTS)
    for count, tokens in ((1, 6), (1, 64), (5, 17), (20, 9)):
        ids = torch.randint(model.architecture.vocabulary, (count, tokens))
        types, mask = torch.zeros_like(ids), torch.ones_like(ids)
        types[:, -3:] = 1
        mask[1:, -1] = 0
        with torch.no_grad():
            expected = model(ids, types, mask.bool()).numpy()
        given = dict(zip(INPUTS, (ids.numpy(), mask.numpy(), types.numpy()), strict=True))
        assert np.abs(session.run(None, given)[0] - expected).max() < 1e-4


def test_packaged_encoder_scores_as_model(made: tuple[Classifier, Path], tmp_path: Path) -> None:
    model, base = made
    content = (base / TOKENIZER).read_text()
    settings = TrainingSettings(base_model=str(base), max_tokens=64)
    build_package(model, content, settings, PAIRS, tmp_path / "package", effort=QUICK)
    engine = Engine.load(tmp_path / "package")
    assert engine.warm_up() > 0
    expected = score_as_teacher(model, tokenize(PAIRS, PairTokenizer.from_file(base / TOKENIZER, 64)))
    scores = engine.score([(pair.text, pair.aspect) for pair in PAIRS])
    uncalibrated = softmax(np.log(scores) * np.float32(engine.package.temperature))
    assert np.abs(uncalibrated - expected).max() < SCORES_WITHIN
    alone = np.concatenate([engine.score([(pair.text, pair.aspect)]) for pair in PAIRS[:8]])
    assert np.abs(alone - scores[:8]).max() < 1e-5


def test_every_weight_matrix_of_layers_is_int8(made: tuple[Classifier, Path]) -> None:
    model, base = made
    write = graph_of(model)
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 64)
    seen = observe_products(write, tokenizer.encode([(pair.text, pair.aspect) for pair in PAIRS[:8]]))
    graph = write(Int8Products(seen, strengths=(0.5,))).graph
    matrices = sum(
        parameter.ndim == 2 and model.layer_of(name) is not None and "bias" not in name.rsplit(".", 2)[-2]
        for name, parameter in model.named_parameters()
    )
    written = {node.input[1] for node in graph.node if node.op_type == "MatMulIntegerToFloat"}
    assert len(written) >= matrices
    kept = [list(each.dims) for each in graph.initializer if each.data_type == TensorProto.FLOAT]
    assert list(model.word_table.weight.shape) not in kept


def test_every_parameter_of_encoder_learns(made: tuple[Classifier, Path]) -> None:
    _, base = made
    model, _ = load_base(base, dropout=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = TrainingSettings(
        base_model=str(base), max_tokens=64, max_epochs=1, threads=1, precision="bf16", train_words=True
    )
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 64)
    trainer = Trainer(model, tokenize(PAIRS, tokenizer), None, settings, Deadline.after(60.0))
    assert trainer.run().steps > 1
    learned = trainer.averaged().state_dict()
    assert all(torch.isfinite(value).all() for value in learned.values())
    unmoved = {name for name, _ in model.named_parameters() if torch.equal(learned[name], before[name])}
    assert unmoved == set()
