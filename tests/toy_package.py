"""A real model package that is made in a second: a small ONNX graph and tokenizer, so that tests need no training.

The graph adds up an embedding of one number per label and token. In a package of the default task some words carry a
sentiment; in one of another task the words of a label's name carry that label. Other words carry nothing.
Seeds above 0 shift the scores a little, so that packages of different seeds have different digests and answers.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from absa.task import ABSA, TaskSpec

_FILLERS = dict.fromkeys(("the", "is", "app", "and", "but", "service", "a", "to", "it"))
WORDS: dict[str, int | None] = {
    "love": 2, "great": 2, "good": 2, "fast": 2, "easy": 2, "terrible": 0, "slow": 0, "bad": 0, "broken": 0,
    "cannot": 0, **_FILLERS,
}  # fmt: skip
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WARMUP = (("the app is great", "app"), ("terrible service", "service"), ("it is a tool", "tool"))


def build_toy_package(
    folder: Path, *, seed: int = 0, forgets: Collection[str] = (), task: TaskSpec = ABSA, layers: int = 0
) -> Path:
    """Write a whole package into a folder, made where it is missing. Equal seeds give equal digests.

    Words that it `forgets` carry no label. It has no layers, but its config names `layers`. A package of the default
    task has the config of earlier releases, which knew no other.
    """
    from absa.inference.engine import Engine

    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS if task.is_default else _words_of(task)
    _write_tokenizer(folder / "tokenizer.json", words)
    _write_model(folder / "model.onnx", seed, words, forgets, task.n_labels)
    config = {
        "schema_version": 1, "base_model": "toy", "layers": layers, "hidden": 3, "max_tokens": 128,
        "inputs": ["input_ids", "attention_mask", "token_type_ids"], "labels": list(task.labels),
        "input_form": "single" if task.phrase is None else "pair", "snapshot": None, "training": {"seed": seed},
    }  # fmt: skip
    if not task.is_default:
        config["task"] = task.to_json()
    calibration = {"temperature": 1.25, "ece_before": 0.1, "ece_after": 0.05, "rows": 100}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    (folder / "gate.json").write_text(json.dumps({"verdict": "PROMOTE"}), encoding="utf-8")
    (folder / "gate.html").write_text("<p>toy</p>", encoding="utf-8")
    (folder / "model_card.md").write_text("# Toy\n", encoding="utf-8")
    warmup = [(text, None if task.phrase is None else aspect) for text, aspect in _WARMUP]
    scores = Engine.load(folder).score(warmup)
    lines = [
        json.dumps(
            {"text": text, **({"aspect": aspect} if aspect else {}), "scores": [round(float(x), 6) for x in row]}
        )
        for (text, aspect), row in zip(warmup, scores, strict=True)
    ]
    (folder / "warmup.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _words_of(task: TaskSpec) -> dict[str, int | None]:
    """Return the words of the labels' names, each with its label, and words that carry none."""
    carrying = {word: n for n, label in enumerate(task.labels) for word in re.findall(r"\w+", label.casefold())}
    return {**_FILLERS, **carrying}


def _vocabulary(words: Collection[str]) -> dict[str, int]:
    return {word: index for index, word in enumerate((*_SPECIAL, *words))}


def _write_tokenizer(path: Path, words: Collection[str]) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = _vocabulary(words)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.save(str(path))


def _write_model(path: Path, seed: int, words: Mapping[str, int | None], forgets: Collection[str], n: int) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    vocabulary = _vocabulary(words)
    table = np.zeros((len(vocabulary), n), dtype=np.float32)
    for word, label in words.items():
        if label is not None and word not in forgets:
            table[vocabulary[word], label] = 1.5
    bias = np.full(n, np.float32(0.01) * np.float32(seed), dtype=np.float32)
    if n == 3:
        bias[1] += np.float32(0.3)
    bias[seed % n] += np.float32(0.02) * np.float32(seed)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),  # (rows, tokens, labels)
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
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", n])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
