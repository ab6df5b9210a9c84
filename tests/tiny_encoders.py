"""Tiny untrained encoders of every family of transformers that the product takes, as folders."""

import csv
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

FAMILIES: Final = ("roberta", "xlm-roberta", "distilbert", "mpnet", "electra", "deberta-v2", "modernbert")
_SAMPLE: Final = Path(__file__).parents[1] / "absa" / "data" / "sample" / "feedback.csv"
_ROWS: Final = 300
_WORDS: Final = 500
_SIZES: Final = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96,
    "max_position_embeddings": 160,
}  # fmt: skip
_OWN: Final[dict[str, dict[str, Any]]] = {
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 96},
    "mpnet": {},
    "electra": {"embedding_size": 48},  # narrower than its layers: not of the fast path
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
        "max_relative_positions": -1,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
}  # fmt: skip


def rows() -> list[tuple[str, str, int]]:
    """Return bundled rows of text, aspect and label."""
    with _SAMPLE.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file)][:_ROWS]


def save_bert(folder: Path, *, layers: int = 1, heads: int = 1) -> Path:
    """Save a tiny untrained BERT with the words of the packaged encoder; a training of it takes seconds."""
    import torch

    from absa.modeling.architecture import Architecture, PairClassifier
    from absa.modeling.bases import TOKENIZER, find_base, save_weights

    torch.manual_seed(0)
    sizes = Architecture(layers=layers, hidden=32, heads=heads, intermediate=64, vocabulary=30_522, positions=128)
    tokenizer = (find_base("minilm-l6") / TOKENIZER).read_text(encoding="utf-8")
    save_weights(PairClassifier(sizes), tokenizer, folder)
    return folder


def save_family(family: str, folder: Path, *, unused: int = 0) -> Any:
    """Save a tiny encoder with the tokenizer of its family; return the encoder of transformers.

    Args:
        family: one of `FAMILIES`.
        folder: is made.
        unused: pieces in front of the others in the vocabulary of an XLM-R, that no text has.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    tokenizer = _tokenizer(family, unused)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")}
    sizes = {name: value for name, value in _SIZES.items() if family != "distilbert" or name.startswith("max")}
    config = AutoConfig.for_model(family, **sizes, **_OWN[family], vocab_size=len(tokenizer), **ids)
    encoder = AutoModel.from_config(config)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return encoder.eval()


def _tokenizer(family: str, unused: int) -> Any:
    import transformers

    if family in ("distilbert", "electra"):
        return transformers.BertTokenizer(vocab=_pieces("WordPiece", ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")))
    if family == "mpnet":
        return transformers.MPNetTokenizer(
            vocab=_pieces("WordPiece", ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"))
        )
    if family == "roberta":
        vocab, merges = _pieces("BPE", ("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
        return transformers.RobertaTokenizer(vocab=vocab, merges=merges)
    if family == "xlm-roberta":
        special = ("<s>", "<pad>", "</s>", "<unk>")
        pieces = _pieces("Unigram", special)
        further = [(f"\u2581unused{number}", -100.0) for number in range(unused)]
        at = len(special)
        return transformers.XLMRobertaTokenizer(vocab=[*pieces[:at], *further, *pieces[at:]])
    if family == "deberta-v2":
        return transformers.DebertaV2Tokenizer(vocab=_pieces("Unigram", ("[PAD]", "[CLS]", "[SEP]", "[UNK]")), unk_id=3)
    return _byte_level(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"))


@cache
def _pieces(kind: str, special: tuple[str, ...]) -> Any:
    """Return a vocabulary of the bundled rows, in the form that a tokenizer's class takes; equal in every process."""
    words = Counter(re.findall(r"\w+|[^\w\s]", " ".join(text for text, _, _ in rows())))
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0]))][:_WORDS]
    letters = sorted({letter for word in words for letter in word})
    if kind == "WordPiece":
        lower = [word.lower() for word in (*letters, *common)]
        return {
            piece: at for at, piece in enumerate(dict.fromkeys([*special, *lower, *(f"##{each}" for each in lower)]))
        }
    if kind == "Unigram":
        pieces = dict.fromkeys([*special, *letters, *(f"\u2581{each}" for each in [*letters, *common])])
        return [(piece, -1.0 - at / len(pieces)) for at, piece in enumerate(pieces)]  # fewer pieces are likelier
    return _byte_pairs(special)


def _byte_pairs(special: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([text for text, _, _ in rows()], trainer)
    learned = json.loads(made.to_str())["model"]
    return learned["vocab"], [tuple(each) for each in learned["merges"]]


def _byte_level(special: tuple[str, ...]) -> Any:
    """Return the tokenizer of ModernBERT: byte-level pairs with the template of BERT."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab, merges = _pieces("BPE", special)
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [(token, vocab[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    named = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)
