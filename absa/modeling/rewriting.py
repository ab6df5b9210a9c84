"""Rewriting of encoder folders: from any form that transformers reads to the form that `load_base` reads."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from absa.modeling.architecture import Architecture
from absa.modeling.encoder import TransformersClassifier, quiet_transformers
from absa.modeling.plain_form import CONFIG, TOKENIZER, WEIGHTS

_MOST_WEIGHTS: Final = 530_000_000  # with more weights in float32, a graph is above the 2 GB of an ONNX file


def rewrite(folder: Path, into: Path) -> None:
    """Rewrite an encoder's folder. A BERT, or an ELECTRA whose embeddings have its width, becomes a fast-path BERT.

    No code from the folder is run, and no pickle is read.

    Args:
        folder: folder with config.json, safetensors and the files of a tokenizer.
        into: new folder for config.json, model.safetensors and tokenizer.json.

    Raises:
        ValueError: weights are missing, pickled or too many, the files do not fit each other, or the model is not an
            encoder.
    """
    transformers = quiet_transformers()
    given = {"local_files_only": True, "trust_remote_code": False}
    _check_family(folder, transformers)
    config = transformers.AutoConfig.from_pretrained(folder, **given)
    if config.is_encoder_decoder:
        raise ValueError(f"expected an encoder, got a {config.model_type}, which has a decoder")
    if not list(folder.glob("*.safetensors")):
        raise ValueError("expected weights in *.safetensors; pickled weights (*.bin) are not read")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
    if (words := _highest_id(tokenizer) + 1) > config.vocab_size:
        raise ValueError(f"its tokenizer has {words:,} words, and {CONFIG} a vocab_size of {config.vocab_size:,}")
    content, separator = plain_tokenizer(tokenizer)
    encoder, found = transformers.AutoModel.from_pretrained(
        folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=True, **given,
    )  # fmt: skip
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith("pooler.")):
        raise ValueError(f"its weights lack {missing[0]}")
    if misshapen := sorted(str(each[0]) for each in found["mismatched_keys"]):
        raise ValueError(f"its weight {misshapen[0]} has another shape than its config.json says")
    check_size(encoder)
    weights, written = _written(encoder.eval(), separator)
    into.mkdir()
    save_file({name: value.contiguous() for name, value in weights.items()}, into / WEIGHTS, metadata={"format": "pt"})
    (into / CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    (into / TOKENIZER).write_text(content, encoding="utf-8")


def _check_family(folder: Path, transformers: Any) -> None:
    kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"transformers {transformers.__version__} has no model_type {kind!r}; expected one such as roberta, "
            "xlm-roberta, distilbert, mpnet, electra, deberta-v2 or modernbert"
        )


def check_size(encoder: Any) -> None:
    """Check that an encoder of transformers can be packaged.

    Raises:
        ValueError: the encoder has too many weights.
    """
    if (weights := encoder.num_parameters()) > _MOST_WEIGHTS:
        raise ValueError(f"it has {weights:,} weights, at most {_MOST_WEIGHTS:,} fit into a package")


def _highest_id(tokenizer: Any) -> int:
    words = tokenizer.get_vocab()
    if len(words) <= len(tokenizer.all_special_tokens):
        raise ValueError(f"its tokenizer has no words: expected {TOKENIZER}, or the files of its family")
    return int(max(words.values()))


def _written(encoder: Any, separator: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights and the content of config.json."""
    try:
        sizes = Architecture.from_huggingface(encoder.config.to_dict() | {"sep_token_id": separator})
    except ValueError:  # not a model of the fast path
        model = TransformersClassifier(encoder, separator)
        _check_direction(model)
        return encoder.state_dict(), model.stored()[1]
    return encoder.state_dict(), sizes.to_huggingface()


def _check_direction(model: TransformersClassifier) -> None:
    words = torch.arange(8)[None, :] % model.architecture.vocabulary
    other = words.clone()
    other[0, -1] = words[0, 0]
    with torch.no_grad():
        first, second = (model.encoder(inputs_embeds=model.word_table(each))[0][0, 0] for each in (words, other))
    if torch.equal(first, second):
        kind = model.encoder.config.model_type
        raise ValueError(f"expected an encoder, got a {kind}, whose tokens do not attend to later tokens")


def plain_tokenizer(tokenizer: Any) -> tuple[str, int]:
    """Return the content of tokenizer.json for a tokenizer of transformers, and the id of its separator.

    The file includes rules that transformers has in code: the special tokens of a text and of a pair; the second part
    of a pair has token type 1. A byte-level tokenizer is changed to put a space before a text, so that a word has the
    same token at the start of an aspect as inside a text, where it is marked.

    Raises:
        ValueError: the tokenizer has no fast form, or adds no token after a text.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"a {type(tokenizer).__name__} cannot be written as {TOKENIZER}")
    plain = Tokenizer.from_str(_with_first_spaces(backend.to_str()))
    plain.no_padding()
    plain.no_truncation()
    alone, pair = plain.encode("a"), plain.encode("a", "b")
    if alone.sequence_ids[-1] is not None:
        raise ValueError("expected a tokenizer that adds a token after a text")
    plain.post_processor = TemplateProcessing(
        single=_pieces(alone),
        pair=_pieces(pair),
        special_tokens=[
            (token, index)
            for token, index, of in zip(pair.tokens, pair.ids, pair.sequence_ids, strict=True)
            if of is None
        ],
    )
    return plain.to_str(), int(alone.ids[-1])


def _pieces(encoding: Any) -> list[str]:
    """Return the template of a row from an encoded row."""
    pieces: list[str] = []
    second = False
    for token, of in zip(encoding.tokens, encoding.sequence_ids, strict=True):
        second = second or of == 1
        piece = {None: f"{token}:{int(second)}", 0: "$A:0", 1: "$B:1"}[of]
        if of is None or piece not in pieces:
            pieces.append(piece)
    return pieces


def _with_first_spaces(content: str) -> str:
    whole = json.loads(content)
    splitter = whole.get("pre_tokenizer") or {}
    for part in [splitter, *splitter.get("pretokenizers", [])]:
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
    return json.dumps(whole)
