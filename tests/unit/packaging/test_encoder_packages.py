"""An encoder of any family, trained and packaged: graph, int8 and engine give what the model gives."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
from absa.packaging.graphs import WriteGraph, graph_of
from absa.packaging.quantize import Int8Products, observe_products
from absa.task import ABSA, TaskSpec
from absa.training.deadline import Deadline
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.shards import open_shards, write_shard
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings
from tests.tiny_encoders import FAMILIES, rows, save_family

PAIRS = [LabelledPair(*row) for row in rows()[:60]]
SCORES_WITHIN = 0.03  # int8 scores beside fp32 scores
TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "refund"))
TOPICS = replace(TICKETS, name="topics", input="text+topic")


class Trained(NamedTuple):
    """An encoder after a few steps: the folder of its base, its model, its graph, and parameters that stood still."""

    base: Path
    model: Classifier
    write: WriteGraph
    unmoved: set[str]


def opinionated(base: Path, task: TaskSpec) -> Classifier:
    """Return a classifier whose head and mark are far from their first values, so that scores differ by row."""
    model, _ = load_base(base, task=task, dropout=0.0)
    if model.mark is not None:
        torch.nn.init.normal_(model.mark, std=0.05)  # words have 0.02
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    return model


def base_of(family: str, folder: Path, *, unused: int = 0) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "cache"))
        save_family(family, folder / family, unused=unused)
        return find_base(str(folder / family))


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base = base_of(request.param, tmp_path_factory.mktemp("families"))
    model = opinionated(base, ABSA)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    settings = TrainingSettings(
        base_model=str(base), max_tokens=64, max_epochs=1, threads=1, precision="bf16", train_words=True
    )
    tokens = tokenize(PAIRS, PairTokenizer.from_file(base / TOKENIZER, 64))
    trainer = Trainer(model, tokens, None, settings, Deadline.after(60.0))
    assert trainer.run().steps > 1
    learned = trainer.averaged().float().eval()
    after = dict(learned.named_parameters())
    assert all(torch.isfinite(value).all() for value in after.values())
    unmoved = {name for name, value in before.items() if torch.equal(after[name], value)}
    return Trained(base, learned, graph_of(learned), unmoved)


def test_every_parameter_of_encoder_learns(trained: Trained) -> None:
    assert trained.unmoved == set()


def test_traced_graph_equals_model_for_each_shape(trained: Trained) -> None:
    graph = trained.write(Float32()).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == set(INPUTS)
    for count, tokens in ((1, 6), (1, 64), (5, 17), (20, 9)):
        ids = torch.randint(trained.model.architecture.vocabulary, (count, tokens))
        types, mask = torch.zeros_like(ids), torch.ones_like(ids)
        types[:, -3:] = 1
        mask[1:, -1] = 0
        with torch.no_grad():
            expected = trained.model(ids, types, mask.bool()).numpy()
        given = dict(zip(INPUTS, (ids.numpy(), mask.numpy(), types.numpy()), strict=True))
        assert np.abs(session.run(None, given)[0] - expected).max() < 1e-4


def test_packaged_encoder_scores_as_model(trained: Trained, tmp_path: Path) -> None:
    check_package(trained.model, trained.base, PAIRS, tmp_path / "package")


def check_package(model: Classifier, base: Path, pairs: list[LabelledPair], folder: Path) -> None:
    """Package a model, and compare the engine's scores with the model's, together and row by row."""
    settings = TrainingSettings(base_model=str(base), max_tokens=64)
    report = build_package(model, (base / TOKENIZER).read_text(), settings, pairs, folder, effort=QUICK)
    assert report.parity.labels_equal >= 0.9
    engine = Engine.load(folder)
    assert engine.warm_up() > 0
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 64, task=model.task)
    expected = score_as_teacher(model, tokenize(pairs, tokenizer))
    scores = engine.score([(pair.text, pair.aspect) for pair in pairs])
    uncalibrated = softmax(np.log(scores) * np.float32(engine.package.temperature))
    assert np.abs(uncalibrated - expected).max() < SCORES_WITHIN
    alone = np.concatenate([engine.score([(pair.text, pair.aspect)]) for pair in pairs[:8]])
    assert np.abs(alone - scores[:8]).max() < 1e-5


@pytest.mark.parametrize(
    ("family", "task"),
    [("xlm-roberta", TICKETS), ("electra", TICKETS), ("distilbert", TOPICS), ("modernbert", TOPICS)],
    ids=lambda value: getattr(value, "input", value),
)
def test_other_inputs_are_packaged(family: str, task: TaskSpec, tmp_path: Path) -> None:
    base = base_of(family, tmp_path)
    model = opinionated(base, task).eval()
    topics = [None] if task.phrase is None else ["support", "price"]
    pairs = [replace(pair, aspect=topics[at % len(topics)], label=at % 4) for at, pair in enumerate(PAIRS)]
    check_package(model, base, pairs, tmp_path / "package")
    if task.phrase is not None:
        engine = Engine.load(tmp_path / "package")
        first, second = engine.score([(PAIRS[0].text, topic) for topic in topics])
        assert np.abs(first - second).max() > 0.01  # the head reads the phrase


def test_ids_of_four_bytes_are_learned_and_served(tmp_path: Path) -> None:
    base = base_of("xlm-roberta", tmp_path, unused=70_000)
    tokenizer = base / TOKENIZER
    write_shard(tmp_path / "tokens", tokenize(PAIRS, PairTokenizer.from_file(tokenizer, 64)), tokenizer, 64)
    corpus = open_shards(tmp_path / "tokens", tokenizer, 64, left_s=lambda: 60.0)
    learned = corpus.take(np.arange(len(PAIRS))).texts
    assert (learned.itemsize, int(learned.min()) > np.iinfo(np.uint16).max) == (4, True)
    model, before = opinionated(base, ABSA), load_base(base)[0].word_table.weight.detach()
    settings = TrainingSettings(base_model=str(base), max_tokens=64, max_epochs=1, threads=1, train_words=True)
    trainer = Trainer(model, corpus, None, settings, Deadline.after(60.0))
    trainer.run()
    trained = trainer.averaged().float().eval()
    moved = (trained.word_table.weight.detach() - before).abs().amax(1)
    words = np.unique(learned).astype(np.int64)
    assert moved[words].median() > 50 * moved[words - 2**16].max()  # ids cut to two bytes would move these
    check_package(trained, base, PAIRS, tmp_path / "package")


def test_every_weight_matrix_of_layers_is_int8(trained: Trained) -> None:
    model, base = trained.model, trained.base
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 64)
    seen = observe_products(trained.write, tokenizer.encode([(pair.text, pair.aspect) for pair in PAIRS[:8]]))
    graph = trained.write(Int8Products(seen, strengths=(0.5,))).graph
    matrices = sum(
        parameter.ndim == 2 and model.layer_of(name) is not None and "bias" not in name.rsplit(".", 2)[-2]
        for name, parameter in model.named_parameters()
    )
    written = {node.input[1] for node in graph.node if node.op_type == "MatMulIntegerToFloat"}
    assert len(written) >= matrices
    kept = [list(each.dims) for each in graph.initializer if each.data_type == TensorProto.FLOAT]
    assert list(model.word_table.weight.shape) not in kept
