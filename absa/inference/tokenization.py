"""Text and aspect to token ids, as the BERT pair `[CLS] text [SEP] aspect [SEP]`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


class Encoded(NamedTuple):
    """Token ids of one pair and which sequence each belongs to (0 text, 1 aspect); unpadded, equal lengths.

    Ids are uint16 where the vocabulary fits (half a kilobyte for the longest row), int64 otherwise; types are uint8.
    """

    input_ids: npt.NDArray[np.generic]
    token_type_ids: npt.NDArray[np.uint8]

    @property
    def tokens(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.input_ids)


class PairTokenizer:
    """Encodes pairs of text and aspect; a text that is too long loses its end, the aspect stays whole.

    Equal, id for id, to `transformers.BertTokenizerFast(text, aspect, truncation="only_first")`. Only an aspect that
    fills the model on its own is shortened too, where transformers gives up. Safe to use from several threads.
    """

    def __init__(self, tokenizer: "Tokenizer", overlong: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._overlong = overlong
        fits = tokenizer.get_vocab_size(with_added_tokens=True) <= np.iinfo(np.uint16).max + 1
        self._dtype: type[np.generic] = np.uint16 if fits else np.int64

    @classmethod
    def from_file(cls, path: Path | str, max_tokens: int = 128) -> Self:
        """Read a `tokenizer.json`.

        Encoding uses one thread unless TOKENIZERS_PARALLELISM says otherwise: the engine runs one process a core, and a
        pool of threads in each would only get in the others' way.

        Args:
            path: the file.
            max_tokens: most tokens of a pair, the special ones included.

        Raises:
            IntegrityError: the file is missing or is no tokenizer.
        """
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        content = _read(Path(path))
        try:
            tokenizer, overlong = Tokenizer.from_str(content), Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise IntegrityError(f"{path} is no tokenizer: {error}") from error
        for each, strategy in ((tokenizer, "only_first"), (overlong, "longest_first")):
            each.no_padding()
            each.enable_truncation(max_length=max_tokens, strategy=strategy)
        return cls(tokenizer, overlong)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode (text, aspect) pairs, in order."""
        rows = [(text, aspect) for text, aspect in pairs]
        try:
            encodings = self._tokenizer.encode_batch_fast(rows)
        except Exception:  # the library raises bare Exception when an aspect alone is longer than the model
            encodings = [self._encode_one(text, aspect) for text, aspect in rows]
        return [
            Encoded(np.array(each.ids, dtype=self._dtype), np.array(each.type_ids, dtype=np.uint8))
            for each in encodings
        ]

    def _encode_one(self, text: str, aspect: str) -> "Encoding":
        try:
            return self._tokenizer.encode(text, aspect)
        except Exception:  # see above
            return self._overlong.encode(text, aspect)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the tokenizer at {path} cannot be read: {error}") from error
