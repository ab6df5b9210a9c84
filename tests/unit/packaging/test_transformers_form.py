"""A classifier of plain text in the form of transformers: equal labels, or one sentence that says why not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from absa.errors import PermanentError
from absa.modeling.architecture import Architecture, PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, load_base
from absa.modeling.head import Classifier
from absa.packaging.transformers_form import obstacle, write_transformers_folder
from absa.task import ABSA, TaskSpec
from tests.tiny_encoders import save_family

SIZES = Architecture(layers=2, hidden=64, heads=2, intermediate=96, vocabulary=30_522, positions=64)
TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug", "praise", "refund", "delivery", "account"))
WORDS = ("the", "app", "bill", "never", "late", "love", "charged", "twice", "crash", "again", "great", "?")


def made_of(family: str, folder: Path) -> tuple[Classifier, str]:
    """Return an untrained model whose head and norms are far from their first values, and its tokenizer.json."""
    torch.manual_seed(3)
    model: Classifier
    if family == "bert":
        model, base = PairClassifier(SIZES, dropout=0.0, task=TICKETS), find_base("minilm-l6")
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_HOME", str(folder / "cache"))
            save_family(family, folder / "theirs")
            base = find_base(str(folder / "theirs"))
        model, _ = load_base(base, task=TICKETS, dropout=0.0)
    model.eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
        model.classifier.weight.mul_(5)
        ids = torch.randint(100, model.architecture.vocabulary, (200, 8))
        model.classifier.bias.sub_(model(ids, torch.zeros_like(ids)).mean(0))
    return model, (base / TOKENIZER).read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "deberta-v2"])
def test_transformers_gives_same_labels_and_scores(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer_json = made_of(family, tmp_path)
    write_transformers_folder(model, tokenizer_json, tmp_path / "out", max_tokens=32, temperature=1.5)
    theirs, found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(found.values())
    generator = torch.Generator().manual_seed(0)
    picks = [torch.randint(len(WORDS), (3 + k % 40,), generator=generator).tolist() for k in range(120)]
    texts = [" ".join(WORDS[pick] for pick in each) for each in picks]
    rows = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, truncation=True, padding=True, return_tensors="pt")
    assert rows["input_ids"].shape[1] == 32
    with torch.no_grad():
        logits = model(rows["input_ids"], torch.zeros_like(rows["input_ids"]), rows["attention_mask"].bool())
        ours = (logits / 1.5).softmax(1)
        scores = theirs.eval()(**rows).logits.softmax(1)
    assert len(ours.argmax(1).unique()) > 1
    assert scores.argmax(1).tolist() == ours.argmax(1).tolist()
    torch.testing.assert_close(scores, ours, atol=2e-3, rtol=0)
    assert theirs.config.id2label == dict(enumerate(TICKETS.labels))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (ABSA, "task absa reads a text with its aspect"),
        (replace(TICKETS, input="text+topic"), "task tickets reads a text with its topic"),
        (TaskSpec(name="wide", input="text", labels=tuple(map(str, range(63)))), "too narrow for 63 labels"),
    ],
    ids=["aspect", "topic", "labels"],
)
def test_model_without_such_form_is_explained(task: TaskSpec, sentence: str, tmp_path: Path) -> None:
    model = PairClassifier(replace(SIZES, vocabulary=10), task=task)
    with pytest.raises(PermanentError, match=sentence):
        write_transformers_folder(model, "{}", tmp_path / "out", max_tokens=32, temperature=1.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["mpnet", "modernbert"])
def test_other_encoder_family_is_explained(family: str, tmp_path: Path) -> None:
    why = obstacle(made_of(family, tmp_path)[0])
    assert why is not None
    assert why.startswith(f"no layer of a {family} can compute the mean over a text, which the head reads: its")
