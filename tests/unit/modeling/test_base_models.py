"""The encoder equals transformers' BERT, and its folders are read both ways."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

from absa.errors import NotFoundError, PermanentError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, keep_layers, load_base, narrow, save_weights
from absa.modeling.folders import pin_base
from absa.modeling.rewriting import check_size
from absa.task import ABSA, InputForm, TaskSpec
from tests.tiny_encoders import save_family

TINY = Architecture(layers=3, hidden=24, heads=3, intermediate=48, vocabulary=200, positions=32)


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "app", "slow", "the", "is")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(PairClassifier(TINY), "{}", tmp_path / "base")
    return tmp_path / "base"


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 100, (4, 12), generator=torch.Generator().manual_seed(1))
    ids[:, 2] = ids[:, 9]
    types = torch.zeros_like(ids)
    types[:, 8:11] = 1
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1:, 11] = False
    return ids, types, mask


def test_the_encoder_equals_that_of_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    model, _ = load_base(folder)
    model.eval()
    theirs = BertModel.from_pretrained(folder).eval()
    monkeypatch.setattr(model, "classify", lambda x, *_: x)
    ids, types, mask = pairs()
    with torch.no_grad():
        ours, reference = model(ids, types, mask), theirs(ids, mask, types).last_hidden_state
    assert torch.allclose(ours[mask], reference[mask], atol=1e-5)


def test_a_saved_model_comes_back_with_its_head(folder: Path) -> None:
    first, has_head = load_base(folder)
    assert has_head
    save_weights(first, "{}", folder.parent / "again")
    second, _ = load_base(folder.parent / "again")
    ids, types, mask = pairs()
    assert torch.equal(first.eval()(ids, types, mask), second.eval()(ids, types, mask))


def test_new_label_gets_a_row_beside_kept_ones(folder: Path) -> None:
    first, _ = load_base(folder)
    more, has_head = load_base(folder, task=replace(ABSA, labels=(*ABSA.labels, "mixed")))
    assert not has_head  # the new row is learned at a head's rate
    assert torch.equal(more.classifier.weight[:3], first.classifier.weight)
    assert more.classifier.weight.shape[0] == more.classifier.bias.shape[0] == 4
    assert more.mark is not None
    ids, types, mask = pairs()
    assert torch.allclose(more.eval()(ids, types, mask)[:, :3], first.eval()(ids, types, mask))


@pytest.mark.parametrize(
    "task",
    [replace(ABSA, labels=("bad", "neutral", "positive"), evaluated=()), TaskSpec(name="absa", input="text")],
    ids=["other labels", "other input"],
)
def test_head_of_another_task_is_not_used(folder: Path, task: TaskSpec) -> None:
    first, _ = load_base(folder)
    other, has_head = load_base(folder, task=task, seed=1)
    assert not has_head
    assert not torch.equal(other.classifier.weight[:, :24], first.classifier.weight[:, :24])


@pytest.mark.parametrize(("form", "views"), [("text", 2), ("text+topic", 3), ("text+aspect", 4)])
def test_head_reads_what_the_input_has(form: InputForm, views: int, tmp_path: Path) -> None:
    task = TaskSpec(name="tickets", input=form, labels=("a", "b", "c", "d", "e"))
    torch.manual_seed(0)
    model = PairClassifier(TINY, dropout=0.0, task=task)
    assert model.classifier.in_features == views * TINY.hidden
    assert (model.mark is not None) == (form == "text+aspect")
    save_weights(model, "{}", tmp_path / "kept")
    again, has_head = load_base(tmp_path / "kept", task=task)
    ids, types, mask = pairs()
    assert has_head
    assert again.eval()(ids, types, mask).shape == (4, 5)
    assert torch.equal(again(ids, types, mask), model.eval()(ids, types, mask))


def test_padding_changes_no_answer(folder: Path) -> None:
    model, _ = load_base(folder)
    model.eval()
    ids, types, mask = pairs()
    with torch.no_grad():
        padded, alone = model(ids, types, mask)[1], model(ids[1:2, :11], types[1:2, :11])[0]
    assert torch.allclose(padded, alone, atol=1e-5)


def test_aspect_is_found_in_text() -> None:
    model = PairClassifier(TINY)
    ids = torch.tensor([[101, 7, 8, 9, 7, 102, 7, 8, 102]])
    types = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1]])
    assert model.find_aspect(ids, types).tolist() == [[0, 1, 1, 0, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize(("layers", "kept"), [(1, [2]), (2, [1, 2]), (3, [0, 1, 2])])
def test_fewer_layers_are_picked_evenly_with_last(layers: int, kept: list[int]) -> None:
    model = PairClassifier(TINY)
    before = list(model.layers)
    keep_layers(model, layers)
    assert [before.index(layer) for layer in model.layers] == kept
    assert model.architecture.layers == layers


def test_more_layers_than_there_are_is_said(folder: Path) -> None:
    with pytest.raises(PermanentError, match="layers must be 1 to 3, got 4"):
        load_base(folder, layers=4)


def test_narrow_student_keeps_word_similarities() -> None:
    torch.manual_seed(0)
    wide = Architecture(layers=2, hidden=96, heads=3, intermediate=48, vocabulary=200, positions=32)
    model = PairClassifier(wide)
    with torch.no_grad():  # 32 directions hold nearly all that the words say
        model.words.weight.copy_(torch.randn(200, 32) @ torch.randn(32, 96) + 0.01 * torch.randn(200, 96))
    student = narrow(model, layers=1, hidden=32, dropout=0.0)
    assert (student.architecture.hidden, student.architecture.layers, len(student.layers)) == (32, 1, 1)
    centred = model.words.weight - model.words.weight.mean(0)
    before, after = torch.cdist(centred, centred), torch.cdist(student.words.weight, student.words.weight)
    assert torch.allclose(after / after.mean(), before / before.mean(), atol=0.02)
    ids, types, mask = pairs()
    assert torch.isfinite(student.eval()(ids, types, mask)).all()


def test_a_student_that_is_no_narrower_is_refused(folder: Path) -> None:
    with pytest.raises(PermanentError, match="hidden must be a multiple of 32 below 24, got 64"):
        load_base(folder, hidden=64)


def test_a_folder_without_its_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"lacks config.json"):
        find_base(str(tmp_path))


def other_form(kind: str, folder: Path) -> Any:
    """Save a small encoder in a form that only transformers reads; return it."""
    from transformers import BertConfig, BertForMaskedLM, ElectraConfig, ElectraModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 48, "max_position_embeddings": 32,
    }  # fmt: skip
    electra = kind == "electra"
    model: Any = (
        ElectraModel(ElectraConfig(**sizes, embedding_size=24)) if electra else BertForMaskedLM(BertConfig(**sizes))
    )
    model.save_pretrained(folder, max_shard_size="1GB" if electra else "10KB")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return model.eval() if electra else model.bert.eval()


@pytest.mark.parametrize("kind", ["bert in parts", "electra"])
def test_other_form_is_rewritten_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    theirs = other_form(kind, tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors").is_file() == (kind == "electra")
    found = find_base(str(tmp_path / "other"))
    assert find_base(str(tmp_path / "other")) == found == find_base(str(found))
    model, has_head = load_base(found)
    assert not has_head
    monkeypatch.setattr(model.eval(), "classify", lambda x, *_: x)
    ids, types, mask = (each % len(WORDS) if each.dtype == torch.int64 else each for each in pairs())
    with torch.no_grad():
        ours, reference = model(ids, types, mask), theirs(ids, mask, types).last_hidden_state
    assert torch.allclose(ours[mask], reference[mask], atol=1e-5)
    encoded = PairTokenizer.from_file(found / TOKENIZER, 16).encode([("the app is slow", "app")])[0]
    assert [WORDS[index] for index in encoded.input_ids] == [
        "[CLS]",
        "the",
        "app",
        "is",
        "slow",
        "[SEP]",
        "app",
        "[SEP]",
    ]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('{"model_type": "t5"}', "expected an encoder, got a t5, which has a decoder"),
        ('{"model_type": "mpnet"}', r"pickled weights \(\*.bin\) are not read"),
        ('{"model_type": "unheard-of"}', "has no model_type 'unheard-of'; expected one such as roberta, xlm-roberta"),
        ('{"model_type": "new", "auto_map": {"AutoModel": "m.M"}}', r"code of its own \(auto_map in config.json\)"),
        ('{"model_type": "bert", "auto_map": {"AutoModel": "m.M"}}', r"code of its own \(auto_map in config.json\)"),
    ],
)
def test_unusable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, problem: str) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(config)
    (tmp_path / "other" / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(PermanentError, match=problem):
        find_base(str(tmp_path / "other"))
    assert list(tmp_path.glob("cache/evergreen/*")) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"vocab_size": 100}, r"tokenizer has \d+ words, and config.json a vocab_size of 100"),
        ({"intermediate_size": 32}, "its weight .*dense.* has another shape than its config.json says"),
        ({"num_hidden_layers": 3}, "its weights lack encoder.layer.2"),
        (None, "its tokenizer has no words: expected tokenizer.json, or the files of its family"),
    ],
    ids=["words", "shape", "layers", "no tokenizer"],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any] | None, problem: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    save_family("roberta", tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | (change or {})))
    if change is None:
        (tmp_path / "other" / "tokenizer.json").unlink()
    with pytest.raises(PermanentError, match=problem):
        find_base(str(tmp_path / "other"))


def test_encoder_too_large_for_package_is_refused() -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    with torch.device("meta"):
        large = XLMRobertaModel(XLMRobertaConfig(vocab_size=12_000_000, hidden_size=48, num_hidden_layers=1))
    with pytest.raises(ValueError, match="at most 530,000,000 fit into a package"):
        check_size(large)


def test_bert_with_relative_places_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"position_embedding_type": "relative_key"}))
    with pytest.raises(PermanentError, match="must be a BERT with absolute positions, got 'relative_key'"):
        load_base(folder)


def test_model_that_reads_left_to_right_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertTokenizer, GPT2Config, GPT2Model

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": len(WORDS) + 2, "n_positions": 32}
    GPT2Model(GPT2Config(**sizes, bos_token_id=2, eos_token_id=3)).save_pretrained(tmp_path / "other")
    BertTokenizer(vocab={word: index for index, word in enumerate((*WORDS, "a", "b"))}).save_pretrained(
        tmp_path / "other"
    )
    with pytest.raises(PermanentError, match="whose tokens do not attend to later tokens"):
        find_base(str(tmp_path / "other"))


def test_another_family_of_models_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mpnet"}')
    with pytest.raises(PermanentError, match="must be a BERT"):
        load_base(folder)


def test_the_packaged_base_is_there() -> None:
    assert (find_base("minilm-l6") / TOKENIZER).is_file()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub with one encoder; remembers revisions that were requested."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache, self.revisions = folder, cache, list[str | None]()

    def __call__(self, repository: str, revision: str | None, files: Sequence[str]) -> Path:
        if repository != "org/encoder":
            raise ValueError("404")
        self.revisions.append(revision)
        into = self._cache / COMMIT
        into.mkdir(parents=True, exist_ok=True)
        for file in self._folder.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in files):
                shutil.copyfile(file, into / file.name)
        return into


def test_hub_name_is_pinned_to_its_commit(folder: Path, tmp_path: Path) -> None:
    hub = Hub(folder, tmp_path / "hub")
    pinned = pin_base("org/encoder", download=hub)
    assert pinned == pin_base("org/encoder@main", download=hub) == f"org/encoder@{COMMIT}"
    assert pin_base(pinned, download=hub) == pinned
    assert find_base(pinned, download=hub) == tmp_path / "hub" / COMMIT
    assert hub.revisions == [None, "main", COMMIT]
    assert (pin_base("minilm-l6"), pin_base(str(folder))) == ("minilm-l6", str(folder))


def test_hub_encoder_of_other_family_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    save_family("xlm-roberta", tmp_path / "theirs")
    (tmp_path / "theirs" / "modeling.py").write_text("raise SystemExit")
    hub = Hub(tmp_path / "theirs", tmp_path / "hub")
    base = find_base("org/encoder", download=hub)
    assert not (tmp_path / "hub" / COMMIT / "modeling.py").exists()
    assert load_base(base)[0].architecture.layers == 2


def test_unknown_name_is_refused_by_hub(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="'org/other' is neither 'minilm-l6', nor a folder, nor reachable"):
        find_base("org/other", download=Hub(folder, tmp_path / "hub"))
