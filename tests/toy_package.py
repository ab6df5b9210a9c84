"""A real model package that is made in a second: a small ONNX graph and tokenizer, so that tests need no training.

The graph adds up an embedding of three numbers a token; words of the vocabulary carry a sentiment, others nothing.
Seeds above 0 shift the scores a little, so that packages of different seeds have different digests and answers.
"""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np

WORDS = {
    "love": 2, "great": 2, "good": 2, "fast": 2, "easy": 2, "terrible": 0, "slow": 0, "bad": 0, "broken": 0,
    "cannot": 0, "the": 1, "is": 1, "app": 1, "and": 1, "but": 1, "service": 1, "a": 1, "to": 1, "it": 1,
}  # fmt: skip
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WARMUP = (("the app is great", "app"), ("terrible service", "service"), ("it is a tool", "tool"))


def build_toy_package(folder: Path, *, seed: int = 0, forgets: Collection[str] = ()) -> Path:
    """Write a whole package into a folder, made where it is missing. Equal seeds give equal digests.

    Words that it `forgets` carry no sentiment.
    """
    from absa.inference.engine import Engine

    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder / "tokenizer.json")
    _write_model(folder / "model.onnx", seed, forgets)
    config = {
        "schema_version": 1, "base_model": "toy", "layers": 0, "hidden": 3, "max_tokens": 128,
        "inputs": ["input_ids", "attention_mask", "token_type_ids"], "labels": ["negative", "neutral", "positive"],
        "input_form": "pair", "snapshot": None, "training": {"seed": seed},
    }  # fmt: skip
    calibration = {"temperature": 1.25, "ece_before": 0.1, "ece_after": 0.05, "rows": 100}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    (folder / "gate.json").write_text(json.dumps({"verdict": "PROMOTE"}), encoding="utf-8")
    (folder / "gate.html").write_text("<p>toy</p>", encoding="utf-8")
    (folder / "model_card.md").write_text("# Toy\n", encoding="utf-8")
    scores = Engine.load(folder).score(_WARMUP)
    lines = [
        json.dumps({"text": text, "aspect": aspect, "scores": [round(float(x), 6) for x in row]})
        for (text, aspect), row in zip(_WARMUP, scores, strict=True)
    ]
    (folder / "warmup.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _vocabulary() -> dict[str, int]:
    return {word: index for index, word in enumerate((*_SPECIAL, *WORDS))}


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = _vocabulary()
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.save(str(path))


def _write_model(path: Path, seed: int, forgets: Collection[str]) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((len(_vocabulary()), 3), dtype=np.float32)
    for word, index in _vocabulary().items():
        if word in WORDS and WORDS[word] != 1 and word not in forgets:
            table[index, WORDS[word]] = 1.5
    bias = np.array([0.0, 0.3, 0.0], dtype=np.float32) + np.float32(0.01) * np.float32(seed)
    bias[seed % 3] += np.float32(0.02) * np.float32(seed)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),  # (rows, tokens, 3)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["embedded", "wide_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["summed"], keepdims=0),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["types", "tokens"], ["aspect_tokens"], keepdims=1),
        helper.make_node("Mul", ["aspect_tokens", "nothing"], ["nothing_of_it"]),
        helper.make_node("Add", ["summed", "bias"], ["shifted"]),
        helper.make_node("Add", ["shifted", "nothing_of_it"], ["logits"]),
    ]
    constants = {
        "table": table,
        "bias": bias,
        "last": np.array([2], dtype=np.int64),
        "tokens": np.array([1], dtype=np.int64),
        "nothing": np.array([0.0], dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
