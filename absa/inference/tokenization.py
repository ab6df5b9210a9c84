"""Text and aspect to token ids, as the BERT pair `[CLS] text [SEP] aspect [SEP]`.

Two libraries know how: `tokenizers` is the reference and reads every tokenizer.json; `nanotoken` encodes WordPiece many
times faster. The fast one is taken where it is installed, reads the file, and gives the reference's ids on a few texts
that exercise what tokenizers differ in.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError

if TYPE_CHECKING:
    from nanotoken import WordPieceTokenizer
    from tokenizers import Encoding, Tokenizer

_SPECIAL_TOKENS: Final = 3  # [CLS] text [SEP] aspect [SEP]
_KNOWN_WORDS: Final = 100_000  # the fast tokenizer's cache, a few MB a process
_TRIALS: Final = (
    ("The Café's check-in took 3,5 hours!!", "check-in"),
    ("naïve ÜBER straße ﬁne İstanbul — “quoted” …", "İstanbul"),
    ("漢字 and 한국어 and ไทย, עברית ١٢٣", "漢字"),
    ("[SEP] a[CLS]b <s> [MASK] [UNK] #tag @me", "[SEP]"),
    ("tab\tnew\nline\u00a0space\u200bzero\ufffd\x00\x07 😍👩‍👩‍👧 e\u0301", "e\u0301"),
    ("w" * 150 + " donaudampfschifffahrt", "antidisestablishmentarianism"),
)


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


class Apart(NamedTuple):
    """Token ids of many texts and of their aspects, each end to end without special tokens, as uint16.

    `text_lengths` says how much of each text a pair has room for; below 1 the pair needs the reference's judgement.
    `special` holds the ids of [CLS] and [SEP].
    """

    text_ids: npt.NDArray[np.uint16]
    text_ends: npt.NDArray[np.int64]
    text_lengths: npt.NDArray[np.int64]
    aspect_ids: npt.NDArray[np.uint16]
    aspect_ends: npt.NDArray[np.int64]
    special: tuple[int, int]


class PairTokenizer:
    """Encodes pairs of text and aspect; a text that is too long loses its end, the aspect stays whole.

    Equal, id for id, to `transformers.BertTokenizerFast(text, aspect, truncation="only_first")`. Only an aspect that
    fills the model on its own is shortened too, where transformers gives up. No row has more than `max_tokens` tokens.
    Safe to use from several threads.
    """

    def __init__(self, tokenizer: "Tokenizer", overlong: "Tokenizer", max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._overlong = overlong
        self.max_tokens = max_tokens
        self._fast: WordPieceTokenizer | None = None
        fits = tokenizer.get_vocab_size(with_added_tokens=True) <= np.iinfo(np.uint16).max + 1
        self._dtype: type[np.generic] = np.uint16 if fits else np.int64

    @classmethod
    def from_file(cls, path: Path | str, max_tokens: int = 128, *, fast: bool = True) -> Self:
        """Read a `tokenizer.json`.

        Encoding uses one thread unless TOKENIZERS_PARALLELISM says otherwise: the engine runs one process a core, and a
        pool of threads in each would only get in the others' way.

        Args:
            path: the file.
            max_tokens: most tokens of a pair, the special ones included.
            fast: whether the fast library may be used; False keeps to the reference.

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
        made = cls(tokenizer, overlong, max_tokens)
        if fast:
            made._use_fast(content)
        return made

    @property
    def is_fast(self) -> bool:
        """Whether the fast library encodes."""
        return self._fast is not None

    def _use_fast(self, content: str) -> None:
        """Take the fast tokenizer if it is there and agrees with the reference."""
        try:
            import nanotoken

            fast = nanotoken.WordPieceTokenizer.from_json(content)
        except (ImportError, ValueError):  # not installed, or not a WordPiece of BERT's kind
            return
        if (len(fast.prefix_ids), len(fast.suffix_ids)) != (1, 1):
            return
        nanotoken.set_cache_entries(_KNOWN_WORDS)
        expected = self._encode_by_reference(_TRIALS)
        self._fast = fast
        if [_plain(row) for row in self.encode(_TRIALS)] != [_plain(row) for row in expected]:
            self._fast = None

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode (text, aspect) pairs, in order."""
        if self._fast is None or not pairs:
            return self._encode_by_reference(pairs)
        texts = [text for text, _ in pairs]
        texts += [aspect for _, aspect in pairs]
        try:
            ids, ends = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
        except ValueError:  # a lone surrogate, which UTF-8 cannot hold
            return self._encode_by_reference(pairs)
        (start,), (end,) = self._fast.prefix_ids, self._fast.suffix_ids
        at: list[int] = ends.tolist()
        count = len(pairs)
        rows: list[Encoded] = []
        for k in range(count):
            aspect = at[count + k + 1] - at[count + k]
            text = min(at[k + 1] - at[k], self.max_tokens - aspect - _SPECIAL_TOKENS)
            if text < 1:  # the aspect fills the model, or the text is empty
                rows += self._encode_by_reference(pairs[k : k + 1])
                continue
            input_ids = np.empty(text + aspect + _SPECIAL_TOKENS, dtype=self._dtype)
            input_ids[0] = start
            input_ids[1 : text + 1] = ids[at[k] : at[k] + text]
            input_ids[text + 1] = input_ids[-1] = end
            input_ids[text + 2 : -1] = ids[at[count + k] : at[count + k + 1]]
            types = np.zeros(len(input_ids), dtype=np.uint8)
            types[text + 2 :] = 1
            rows.append(Encoded(input_ids, types))
        return rows

    def encode_apart(self, texts: Sequence[str], aspects: Sequence[str]) -> Apart | None:
        """Encode columns of texts and aspects without a loop over rows; None where only `encode` can.

        That is where the fast library is not in use, or a text cannot be written as UTF-8.
        """
        if self._fast is None or self._dtype is not np.uint16:
            return None
        try:
            text_ids, text_ends = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
            aspect_ids, aspect_ends = self._fast.encode_batch(aspects, add_special_tokens=False, parallel=False)
        except ValueError:  # a lone surrogate
            return None
        room = self.max_tokens - _SPECIAL_TOKENS - np.diff(aspect_ends)
        (start,), (end,) = self._fast.prefix_ids, self._fast.suffix_ids
        return Apart(
            text_ids.astype(np.uint16),
            text_ends[1:],
            np.minimum(np.diff(text_ends), room),
            aspect_ids.astype(np.uint16),
            aspect_ends[1:],
            (int(start), int(end)),
        )

    def _encode_by_reference(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
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


def _plain(row: Encoded) -> tuple[list[int], list[int]]:
    return row.input_ids.tolist(), row.token_type_ids.tolist()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the tokenizer at {path} cannot be read: {error}") from error
