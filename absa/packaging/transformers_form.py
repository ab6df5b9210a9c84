"""A classifier of plain text as a folder of `transformers.AutoModelForSequenceClassification`, without code of ours.

Our head reads two views of the last layer, the first token x and the mean m over all tokens: its logits are
W x + V m + b. The head of transformers' BERT reads the first token alone. A layer above the last makes up for it:

- its attention has queries and keys of 0, so it weighs all tokens alike; with values A m its output is x + A m + d;
- A and d solve W' A = V and W' d = b', where W' is W with the part taken out that the layer norm would remove;
- the layer norm subtracts the mean, which W' does not see, and divides by a standard deviation.

So labels are equal by construction. d also holds a large constant that W' does not see, which makes the deviation all
but equal for every row: probabilities agree to about 1e-3. The pooler's tanh is used where it is all but linear.
"""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from absa.errors import PermanentError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import PairClassifier, to_huggingface_weights
from absa.modeling.encoder import quiet_transformers
from absa.modeling.head import Classifier
from absa.modeling.plain_form import CONFIG, TOKENIZER, WEIGHTS

_SPREAD: Final = 256.0  # of the constant over that of the last layer: more costs digits of float32
_LINEAR: Final = 1e-3  # scale at which tanh is all but linear
_PROBES: Final = (
    "the app is great",
    "i was charged twice this month and nobody answers",
    "it is a tool",
    "???",
    "one two three four five six seven eight nine ten " * 40,
)
_SPECIAL: Final = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip


def obstacle(model: Classifier) -> str | None:
    """Return why a classifier has no form that transformers reads, as the end of a sentence; None where it has one."""
    task = model.task
    if task.phrase is not None:
        return (
            f"task {task.name} reads a text with its {task.phrase}, which a sequence classification of one text lacks"
        )
    if not isinstance(model, PairClassifier):
        return "its encoder is no BERT, and the heads of other families of transformers read the text in another way"
    if task.n_labels + 1 >= model.architecture.hidden:
        return f"its encoder is {model.architecture.hidden} wide, too narrow for {task.n_labels} labels"
    return None


def write_transformers_folder(
    model: Classifier, tokenizer_json: str, folder: Path, *, max_tokens: int, temperature: float
) -> None:
    """Write the folder, load it by transformers, and compare its labels with the classifier's.

    Args:
        model: the classifier.
        tokenizer_json: of the `tokenizers` library.
        folder: is made; holds config.json, model.safetensors, tokenizer.json and tokenizer_config.json.
        max_tokens: most tokens of a row.
        temperature: divides the logits, as in the package.

    Raises:
        PermanentError: the classifier has no such form, or the folder gives other labels.
    """
    if (why := obstacle(model)) is not None:
        raise PermanentError(f"no export to transformers: {why}")
    assert isinstance(model, PairClassifier)
    folder.mkdir(parents=True, exist_ok=True)
    weights = _weights(model, temperature)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    labels = model.task.labels
    config: dict[str, Any] = {
        **model.architecture.to_huggingface(),
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": model.architecture.layers + 1,
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    known = json.loads(tokenizer_json)["model"]["vocab"]
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{name: token for name, token in _SPECIAL.items() if token in known},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    _compare(model, folder, max_tokens)


def _weights(model: PairClassifier, temperature: float) -> dict[str, Tensor]:
    """Return the weights of the deeper BERT, by their names in transformers."""
    encoder = {name: value for name, value in to_huggingface_weights(model).items() if "." in name}
    weights = {f"bert.{name}": value for name, value in encoder.items() if not name.startswith("classifier.")}
    width, labels, new = model.architecture.hidden, model.task.n_labels, model.architecture.layers
    last = f"bert.encoder.layer.{new - 1}.output.LayerNorm"
    gain, shift = weights[f"{last}.weight"].double(), weights[f"{last}.bias"].double()
    head = model.classifier.weight.detach().double()  # (labels, 2 H)
    first, mean = head[:, :width], head[:, width:]
    # what the norm of the last layer gave sums to 0 over its gain: a direction that may be added to W at will
    inverse = 1.0 / gain
    unseen = first.sum(1) / inverse.sum()
    first = first - unseen[:, None] * inverse
    bias = model.classifier.bias.detach().double() + unseen * (inverse @ shift)
    solved = torch.linalg.pinv(first)  # (H, labels)
    constant, deviation = _constant(first, _SPREAD * float((gain.square().mean() + shift.square().mean()).sqrt()))

    def linear(name: str, weight: Tensor, offset: Tensor | None = None) -> None:
        weights[f"bert.{name}.weight"] = weight.float().contiguous()
        weights[f"bert.{name}.bias"] = torch.zeros(len(weight)) if offset is None else offset.float()

    layer = f"encoder.layer.{new}"
    inner, identity = model.architecture.intermediate, torch.eye(width, dtype=torch.float64)
    for part in ("query", "key"):
        linear(f"{layer}.attention.self.{part}", torch.zeros(width, width))
    linear(f"{layer}.attention.self.value", solved @ mean)
    linear(f"{layer}.attention.output.dense", identity, solved @ bias + constant)
    linear(f"{layer}.intermediate.dense", torch.zeros(inner, width))
    linear(f"{layer}.output.dense", torch.zeros(width, inner))
    for part in ("attention.output", "output"):
        weights[f"bert.{layer}.{part}.LayerNorm.weight"] = torch.ones(width)
        weights[f"bert.{layer}.{part}.LayerNorm.bias"] = torch.zeros(width)
    pooled = torch.zeros(width, width, dtype=torch.float64)
    pooled[:labels] = _LINEAR * deviation * first
    linear("pooler.dense", pooled)
    weights["classifier.weight"] = (identity[:labels] / (_LINEAR * temperature)).float()
    weights["classifier.bias"] = torch.zeros(labels)
    return weights


def _constant(head: Tensor, deviation: float) -> tuple[Tensor, float]:
    """Return a constant (H) with a mean of 0 and a standard deviation that no row of a head (labels, H) sees."""
    seen = torch.linalg.qr(torch.cat([head, torch.ones_like(head[:1])]).T).Q  # (H, labels + 1)
    signs = torch.ones(head.shape[1], dtype=head.dtype)
    signs[::2] = -1.0
    constant = signs - seen @ (seen.T @ signs)
    return constant * (deviation / constant.square().mean().sqrt()), deviation


def _compare(model: PairClassifier, folder: Path, max_tokens: int) -> None:
    """Compare the folder with the classifier.

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
