"""Every family of transformers: read from its folder, equal to transformers, kept and read again."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from absa.errors import PermanentError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.architecture import PairClassifier
from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
from absa.modeling.encoder import TransformersClassifier
from absa.task import TaskSpec
from absa.training.rows.batches import Batch, assemble
from absa.training.rows.tokens import LabelledPair, tokenize
from tests.tiny_encoders import FAMILIES, rows, save_family

PAIRS = rows()[:9]


class Family(NamedTuple):
    """A tiny encoder: its folder, the form that is read, and the model of transformers."""

    name: str
    folder: Path
    base: Path
    theirs: Any


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "cache"))
        theirs = save_family(request.param, folder / request.param)
        return Family(request.param, folder / request.param, find_base(str(folder / request.param)), theirs)


def batch_of(base: Path) -> Batch:
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, 64)
    return assemble(tokenize([LabelledPair(*row) for row in PAIRS], tokenizer), torch.arange(len(PAIRS)).numpy())


def inputs(base: Path) -> list[torch.Tensor]:
    batch = batch_of(base)
    assert batch.mask is not None
    return [torch.from_numpy(each) for each in (batch.input_ids, batch.token_types, batch.mask)]


def test_last_layer_equals_that_of_transformers(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, has_head = load_base(family.base, dropout=0.0)
    assert (has_head, type(model)) == (False, TransformersClassifier)
    monkeypatch.setattr(model.eval(), "classify", lambda x, *_: x)
    ids, types, mask = inputs(family.base)
    given = {"token_type_ids": types.long()} if family.name == "electra" else {}
    with torch.no_grad():
        ours = model(ids, types, mask)
        reference = family.theirs(input_ids=ids, attention_mask=mask.long(), **given)[0]
        alone = model(ids[3:4, : mask[3].sum()], types[3:4, : mask[3].sum()])
    assert torch.allclose(ours[mask], reference[mask], atol=1e-5)
    assert torch.allclose(ours[3, mask[3]], alone[0], atol=1e-5)


def test_rows_have_special_tokens_of_family(family: Family) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(family.folder)
    encoded = PairTokenizer.from_file(family.base / TOKENIZER, 64).encode([(text, aspect) for text, aspect, _ in PAIRS])
    for row, (text, aspect, _) in zip(encoded, PAIRS, strict=True):
        spaced = " " if family.name in ("roberta", "modernbert") else ""  # what makes words equal everywhere
        assert row.input_ids.tolist() == theirs(spaced + text, spaced + aspect)["input_ids"]
        assert row.token_type_ids.max() == 1


def test_aspect_is_marked_where_text_has_it(family: Family) -> None:
    model, _ = load_base(family.base)
    tokenizer = PairTokenizer.from_file(family.base / TOKENIZER, 64)
    (row,) = tokenizer.encode([("we like the search in this app", "search")])
    ids, types = (torch.from_numpy(each.astype("int64"))[None] for each in (row.input_ids, row.token_type_ids))
    (marked,) = model.find_aspect(ids, types)
    aspect = tokenizer.split(row)[1].tolist()
    assert ids[0, marked.bool()].tolist() == aspect


def test_saved_encoder_comes_back_with_its_head(family: Family, tmp_path: Path) -> None:
    first, _ = load_base(family.base, dropout=0.0)
    assert first.mark is not None
    torch.nn.init.normal_(first.mark)
    save_weights(first, (family.base / TOKENIZER).read_text(), tmp_path / "again")
    assert find_base(str(tmp_path / "again")) == tmp_path / "again"
    second, has_head = load_base(tmp_path / "again", dropout=0.0)
    given = inputs(family.base)
    with torch.no_grad():
        assert torch.equal(first.eval()(*given), second.eval()(*given))
    assert has_head
    labels = TaskSpec(name="tickets", input="text", labels=("a", "b", "c", "d"))
    assert load_base(tmp_path / "again", task=labels)[1] is False


def test_fewer_layers_are_kept(family: Family) -> None:
    model, _ = load_base(family.base, layers=1, dropout=0.0)
    with torch.no_grad():
        assert torch.isfinite(model.eval()(*inputs(family.base))).all()
    numbers = {model.layer_of(name) for name, _ in model.named_parameters()}
    assert (model.architecture.layers, numbers - {None}) == (1, {0})


def test_narrow_student_of_any_encoder_is_a_bert(family: Family, tmp_path: Path) -> None:
    student, has_head = load_base(family.base, layers=1, hidden=32)
    assert (has_head, type(student), student.architecture.hidden) == (False, PairClassifier, 32)
    save_weights(student, (family.base / TOKENIZER).read_text(), tmp_path / "student")
    again, _ = load_base(tmp_path / "student")
    assert again.architecture == student.architecture
    given = inputs(family.base)
    with torch.no_grad():
        assert torch.equal(student.eval()(*given), again.eval()(*given))


def test_rows_longer_than_positions_are_refused(family: Family) -> None:
    model, _ = load_base(family.base, max_tokens=160 - 2 * (family.name in ("roberta", "xlm-roberta", "mpnet")))
    problem = f"max_tokens must be at most {model.architecture.positions} for this model, got 161"
    with pytest.raises(PermanentError, match=problem):
        load_base(family.base, max_tokens=161)
