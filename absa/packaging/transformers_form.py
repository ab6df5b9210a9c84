"""Export of a classifier of plain text for `transformers.AutoModelForSequenceClassification`, without own code.

Our head reads two views of the last layer, the first token x and the mean m over all tokens: its logits are
W x + V m + b. The heads of BERT and similar models in transformers read only the first token. So one layer is added
above the last layer:

- its attention has queries and keys of 0, so all tokens have equal weights; with values A m its output is x + A m + d;
- A and d solve W' A = V and W' d = b', where W' is W with the part taken out that the layer norm would remove;
- the layer norm subtracts the mean, which does not change the product with W', and divides by a standard deviation.

So labels are equal by construction. d also has a large constant that does not change the product with W'. It makes the
deviation almost equal for all rows, so probabilities agree to about 1e-3. The tanh, ReLU or GELU of the head is used in
a range in which it is almost linear.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from absa.errors import PermanentError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.encoder import quiet_transformers
from absa.modeling.head import CLASSIFIER_PREFIX, Classifier
from absa.modeling.plain_form import CONFIG, ENCODER_MARK, TOKENIZER, WEIGHTS

_SPREAD: Final = 256.0  # deviation of the constant over the last layer's; a larger one costs digits of float32
_SMALL: Final = 1e-3  # scale at which tanh is almost linear
_ABOVE: Final = (0.125, 32.0)  # scale and shift of logits with which ReLU and GELU are linear, up to logits of 200
_PROBES: Final = (
    "the app is great",
    "i was charged twice this month and nobody answers",
    "it is a tool",
    "???",
    "one two three four five six seven eight nine ten " * 40,
)
_SPECIAL: Final = {
    "pad_token": ("[PAD]", "<pad>"), "unk_token": ("[UNK]", "<unk>"), "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"), "mask_token": ("[MASK]", "<mask>"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Names of weights in a family of transformers, without `.weight` and `.bias`.

    Attributes:
        encoder: prefix of the encoder.
        attention: query, key, value and output of a layer's attention, and the norm after it.
        inner: both products of a layer's inner part, and the norm after them.
        head: both products of the head.
        bounded: True if the head's activation is a tanh; False: a ReLU or a GELU.
        takes_types: True if the model takes token types.
        layers: prefix of the layers.
        depth: name of the number of layers in config.json.
    """

    encoder: str
    head: tuple[str, str]
    bounded: bool
    takes_types: bool = False
    layers: str = "encoder.layer"
    attention: tuple[str, str, str, str, str] = (
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "attention.output.LayerNorm",
    )  # fmt: skip
    inner: tuple[str, str, str] = ("intermediate.dense", "output.dense", "output.LayerNorm")
    depth: str = "num_hidden_layers"


_ROBERTA: Final = _Family(encoder="roberta", head=("classifier.dense", "classifier.out_proj"), bounded=True)
_FAMILIES: Final = {
    "bert": _Family(encoder="bert", head=("bert.pooler.dense", "classifier"), bounded=True, takes_types=True),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": _Family(
        encoder="electra", head=("classifier.dense", "classifier.out_proj"), bounded=False, takes_types=True
    ),
    "distilbert": _Family(
        encoder="distilbert", head=("pre_classifier", "classifier"), bounded=False, layers="transformer.layer",
        attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
        inner=("ffn.lin1", "ffn.lin2", "output_layer_norm"), depth="n_layers",
    ),
    "deberta-v2": _Family(
        encoder="deberta", head=("pooler.dense", "classifier"), bounded=False,
        attention=(
            "attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj",
            "attention.output.dense", "attention.output.LayerNorm",
        ),
    ),
}  # fmt: skip
_NO_MEAN: Final = {
    "mpnet": "its attention always depends on places",
    "modernbert": "its layers norm their inputs, not their results",
}


def obstacle(model: Classifier) -> str | None:
    """Return why a classifier cannot be exported for transformers, as a clause; None if it can be exported."""
    task = model.task
    if task.phrase is not None:
        return (
            f"task {task.name} reads a text with its {task.phrase}, which a sequence classification of one text lacks"
        )
    kind = model.stored()[1]["model_type"]
    if kind not in _FAMILIES:
        why = _NO_MEAN.get(kind, f"only {', '.join(_FAMILIES)} are known to do so")
        return f"no layer of a {kind} can compute the mean over a text, which the head reads: {why}"
    if task.n_labels + 1 >= model.architecture.hidden:
        return f"its encoder is {model.architecture.hidden} wide, too narrow for {task.n_labels} labels"
    return None


def write_transformers_folder(
    model: Classifier, tokenizer_json: str, folder: Path, *, max_tokens: int, temperature: float
) -> None:
    """Write the folder, load it with transformers, and compare its labels with those of the classifier.

    Args:
        model: the classifier.
        tokenizer_json: content of tokenizer.json.
        folder: new folder for config.json, model.safetensors, tokenizer.json and tokenizer_config.json.
        max_tokens: largest number of tokens of a row.
        temperature: divides the logits, as in the package.

    Raises:
        PermanentError: the classifier cannot be exported, or the folder gives other labels.
    """
    if (why := obstacle(model)) is not None:
        raise PermanentError(f"no export to transformers: {why}")
    folder.mkdir(parents=True, exist_ok=True)
    stored, config = model.stored()
    family = _FAMILIES[config["model_type"]]
    save_file(_weights(model, stored, family, temperature), folder / WEIGHTS, metadata={"format": "pt"})
    labels = model.task.labels
    config.pop(ENCODER_MARK, None)
    config |= {
        "architectures": [f"{config['architectures'][0].removesuffix('Model')}ForSequenceClassification"],
        family.depth: model.architecture.layers + 1,
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    described = _described(tokenizer_json, max_tokens, family)
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    _compare(model, folder, max_tokens)


def _described(tokenizer_json: str, max_tokens: int, family: _Family) -> dict[str, Any]:
    """Return the content of tokenizer_config.json."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_str(tokenizer_json)
    special = {
        role: next((token for token in tokens if known.token_to_id(token) is not None), None)
        for role, tokens in _SPECIAL.items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "model_input_names": ["input_ids", *(["token_type_ids"] if family.takes_types else []), "attention_mask"],
        **{role: token for role, token in special.items() if token is not None},
    }


def _weights(model: Classifier, stored: dict[str, Tensor], family: _Family, temperature: float) -> dict[str, Tensor]:
    """Return the weights of the deeper encoder with its head, by their names in transformers."""
    kept = {name: value for name, value in stored.items() if not name.startswith(CLASSIFIER_PREFIX)}
    weights = {f"{family.encoder}.{name}": value.contiguous() for name, value in kept.items()}
    width, labels, new = model.architecture.hidden, model.task.n_labels, model.architecture.layers
    layers = f"{family.encoder}.{family.layers}"
    last = f"{layers}.{new - 1}.{family.inner[-1]}"
    gain, shift = weights[f"{last}.weight"].double(), weights[f"{last}.bias"].double()
    head = model.classifier.weight.detach().double()  # (labels, 2 H)
    first, mean = head[:, :width], head[:, width:]
    # divided by its gain, the output of the last norm (without shift) sums to 0: W may change in this direction
    inverse = 1.0 / gain
    unseen = first.sum(1) / inverse.sum()
    first = first - unseen[:, None] * inverse
    bias = model.classifier.bias.detach().double() + unseen * (inverse @ shift)
    solved = torch.linalg.pinv(first)  # (H, labels)
    constant, deviation = _constant(first, _SPREAD * float((gain.square().mean() + shift.square().mean()).sqrt()))

    def linear(name: str, weight: Tensor, offset: Tensor | None = None) -> None:
        weights[f"{name}.weight"] = weight.float().contiguous()
        weights[f"{name}.bias"] = torch.zeros(len(weight)) if offset is None else offset.float()

    inner, identity = model.architecture.intermediate, torch.eye(width, dtype=torch.float64)
    query, key, value, output, attention_norm = (f"{layers}.{new}.{name}" for name in family.attention)
    widen, narrow, norm = (f"{layers}.{new}.{name}" for name in family.inner)
    for part in (query, key):
        linear(part, torch.zeros(width, width))
    linear(value, solved @ mean)
    linear(output, identity, solved @ bias + constant)
    linear(widen, torch.zeros(inner, width))
    linear(narrow, torch.zeros(width, inner))
    for part in (attention_norm, norm):
        weights[f"{part}.weight"], weights[f"{part}.bias"] = torch.ones(width), torch.zeros(width)
    scale, above = (_SMALL, 0.0) if family.bounded else _ABOVE
    to_logits = torch.zeros(width, width, dtype=torch.float64)
    to_logits[:labels] = scale * deviation * first
    linear(family.head[0], to_logits, torch.full((width,), above))
    linear(
        family.head[1], identity[:labels] / (scale * temperature), torch.full((labels,), -above / (scale * temperature))
    )
    return weights


def _constant(head: Tensor, deviation: float) -> tuple[Tensor, float]:
    """Return a constant (H) with mean 0 and a given deviation, orthogonal to all rows of a head (labels, H)."""
    seen = torch.linalg.qr(torch.cat([head, torch.ones_like(head[:1])]).T).Q  # (H, labels + 1)
    signs = torch.ones(head.shape[1], dtype=head.dtype)
    signs[::2] = -1.0
    constant = signs - seen @ (seen.T @ signs)
    return constant * (deviation / constant.square().mean().sqrt()), deviation


def _compare(model: Classifier, folder: Path, max_tokens: int) -> None:
    """Compare the labels of the folder and of the classifier for probe texts.

    Raises:
        PermanentError: a label differs.
    """
    transformers = quiet_transformers()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    read = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows = PairTokenizer.from_file(folder / TOKENIZER, max_tokens, task=model.task).encode([(t, None) for t in _PROBES])
    model = model.eval()
    for text, row in zip(_PROBES, rows, strict=True):
        ids = torch.from_numpy(row.input_ids.astype("int64"))[None]
        with torch.no_grad():
            ours = model(ids, torch.zeros_like(ids))
            found = theirs(**read(text, truncation=True, return_tensors="pt")).logits
        if int(ours.argmax()) != int(found.argmax()):
            raise PermanentError("transformers gives another label for a probe than the model; nothing was exported")
