"""Encoding of rows as token ids with special tokens: `[CLS] text [SEP] phrase [SEP]`, or `[CLS] text [SEP]`.

There are two libraries: `tokenizers` is the reference and reads every tokenizer.json; `nanotoken` encodes WordPiece
many times faster. The fast library is used if it is installed, reads the file, and gives the same ids as the reference
on a few texts that show differences between tokenizers.

A text that is too long is cut around the aspect (`absa.inference.excerpt`). With a topic, which need not be in the
text, and without a phrase, the start of the text is kept. The rule needs only the numbers of tokens, so it is the same
for both libraries.
"""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from absa.errors import IntegrityError
from absa.inference.excerpt import first_kept, up_to_aspect
from absa.task import ABSA, TaskSpec

if TYPE_CHECKING:
    from nanotoken import WordPieceTokenizer
    from tokenizers import Encoding, Tokenizer

ModelInput = tuple[str, str | None]
"""Text and phrase (aspect or topic); the phrase is None for plain text."""

_KNOWN_WORDS: Final = 100_000  # size of the fast tokenizer's cache, a few MB per process
_TRIALS: Final[tuple[ModelInput, ...]] = (
    ("The Café's check-in took 3,5 hours!!", "check-in"),
    ("naïve ÜBER straße ﬁne İstanbul — “quoted” …", "İstanbul"),
    ("漢字 and 한국어 and ไทย, עברית ١٢٣", "漢字"),
    ("[SEP] a[CLS]b <s> [MASK] [UNK] #tag @me", "[SEP]"),
    ("tab\tnew\nline\u00a0space\u200bzero\ufffd\x00\x07 😍👩‍👩‍👧 e\u0301", "e\u0301"),
    ("w" * 150 + " donaudampfschifffahrt", "antidisestablishmentarianism"),
    ("plain text without a phrase", None),
)


class Template(NamedTuple):
    """Ids of a row's special tokens: before the text, between text and phrase, and after the phrase.

    `between` is empty for plain text.
    """

    prefix: tuple[int, ...]
    between: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def bert(cls, first: int, separator: int) -> Self:
        """Return `[CLS] text [SEP] phrase [SEP]`."""
        return cls((first,), (separator,), (separator,))

    @property
    def tokens(self) -> int:
        """Number of special tokens."""
        return len(self.prefix) + len(self.between) + len(self.suffix)


class Encoded(NamedTuple):
    """Token ids of one row, and their types (0 text, 1 phrase); not padded, of equal lengths.

    Ids are uint16 if the vocabulary is small enough (half a kilobyte for the longest row), otherwise uint32. Types are
    uint8. `truncated` is True if tokens of the text or of the phrase were left out.
    """

    input_ids: npt.NDArray[np.generic]
    token_type_ids: npt.NDArray[np.uint8]
    truncated: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.input_ids)


class Apart(NamedTuple):
    """Token ids of many texts and of their phrases, each concatenated without special tokens.

    Row i keeps `text_lengths[i]` tokens of its text, from `text_starts[i]` on, which is an index of `text_ids`. If the
    length is below 1, the row must be encoded by `encode`. Phrases of plain text have no tokens.
    """

    text_ids: npt.NDArray[np.generic]
    text_starts: npt.NDArray[np.int64]
    text_lengths: npt.NDArray[np.int64]
    aspect_ids: npt.NDArray[np.generic]
    aspect_ends: npt.NDArray[np.int64]


class PairTokenizer:
    """Encoder of rows. If a text is too long, the tokens around the aspect are kept, or the start of the text.

    A row that is short enough has the ids of transformers' fast tokenizer for (text, phrase), or for the text alone. A
    phrase is shortened only if it leaves no room for the text: then the longer of the two loses its end. No row has
    more than `max_tokens` tokens. Safe to use from several threads.

    Args:
        tokenizer: tokenizer of the `tokenizers` library, without truncation.
        overlong: the same tokenizer with truncation to `max_tokens`.
        max_tokens: largest number of tokens of a row, special tokens included.
        task: an aspect is searched in the text, a topic is not.
    """

    def __init__(
        self, tokenizer: "Tokenizer", overlong: "Tokenizer", max_tokens: int, *, task: TaskSpec = ABSA
    ) -> None:
        self._tokenizer = tokenizer
        self._overlong = overlong
        self.max_tokens = max_tokens
        self._around_phrase = task.phrase == "aspect"
        self._is_pair = task.phrase is not None
        self._fast: WordPieceTokenizer | None = None
        fits = tokenizer.get_vocab_size(with_added_tokens=True) <= np.iinfo(np.uint16).max + 1
        self._dtype: type[np.generic] = np.uint16 if fits else np.uint32

    @classmethod
    def from_file(cls, path: Path | str, max_tokens: int = 128, *, fast: bool = True, task: TaskSpec = ABSA) -> Self:
        """Read a `tokenizer.json`.

        Encoding uses one thread unless TOKENIZERS_PARALLELISM is set: the engine runs one process per core, and a pool
        of threads in each would only compete with the other processes.

        Args:
            path: path of the file.
            max_tokens: largest number of tokens of a row, special tokens included.
            fast: True if the fast library may be used; False: only the reference.
            task: an aspect is searched in the text, a topic is not.

        Raises:
            IntegrityError: the file is missing or is not a tokenizer.
        """
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        content = _read(Path(path))
        try:
            tokenizer, overlong = Tokenizer.from_str(content), Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise IntegrityError(f"{path} is not a tokenizer: {error}") from error
        for each in (tokenizer, overlong):
            each.no_padding()
        tokenizer.no_truncation()
        overlong.enable_truncation(max_length=max_tokens, strategy="longest_first")
        made = cls(tokenizer, overlong, max_tokens, task=task)
        if fast:
            made._use_fast(content)
        return made

    @property
    def is_fast(self) -> bool:
        """Return True if the fast library is used."""
        return self._fast is not None

    @property
    def template(self) -> Template:
        """Special tokens of the task's rows."""
        return self._pair if self._is_pair else self._alone

    @cached_property
    def _pair(self) -> Template:
        pair = self._tokenizer.encode("a", "b")
        end, second, last = _end(pair, 0), pair.sequence_ids.index(1), _end(pair, 1)
        begin = pair.sequence_ids.index(0)
        return Template(tuple(pair.ids[:begin]), tuple(pair.ids[end:second]), tuple(pair.ids[last:]))

    @cached_property
    def _alone(self) -> Template:
        text = self._tokenizer.encode("a")
        return Template(tuple(text.ids[: text.sequence_ids.index(0)]), (), tuple(text.ids[_end(text, 0) :]))

    def split(self, row: Encoded) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        """Return the token ids of a row's text and phrase without special tokens; the phrase of plain text is empty."""
        special, end = self.template, row.tokens - len(self.template.suffix)
        asked = int(np.argmax(row.token_type_ids)) if self._is_pair else end  # the first token of the phrase
        return row.input_ids[len(special.prefix) : asked - len(special.between)], row.input_ids[asked:end]

    def _use_fast(self, content: str) -> None:
        """Use the fast tokenizer if it is installed and agrees with the reference."""
        try:
            import nanotoken

            fast = nanotoken.WordPieceTokenizer.from_json(content)
        except (ImportError, ValueError):  # not installed, or not a WordPiece tokenizer as in BERT
            return
        nanotoken.set_cache_entries(_KNOWN_WORDS)
        expected = self._encode_by_reference(_TRIALS)
        self._fast = fast
        if [_plain(row) for row in self.encode(_TRIALS)] != [_plain(row) for row in expected]:
            self._fast = None

    def encode(self, pairs: Sequence[ModelInput]) -> list[Encoded]:
        """Encode (text, phrase) pairs, in order; a phrase of None makes a row of plain text."""
        if self._fast is None or not pairs:
            return self._encode_by_reference(pairs)
        texts = [text for text, _ in pairs]
        texts += [phrase or "" for _, phrase in pairs]
        try:
            ids, ends = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
        except ValueError:  # a lone surrogate, which UTF-8 cannot hold
            return self._encode_by_reference(pairs)
        templates = {each: [np.array(ids, dtype=self._dtype) for ids in each] for each in (self._pair, self._alone)}
        at: list[int] = ends.tolist()
        count = len(pairs)
        rows: list[Encoded] = []
        for k in range(count):
            special = self._alone if pairs[k][1] is None else self._pair
            phrase = at[count + k + 1] - at[count + k]
            first, text, room = at[k], at[k + 1] - at[k], self.max_tokens - phrase - special.tokens
            if text < 1 or room < 1:  # the text is empty, or the phrase leaves no room for it
                rows += self._encode_by_reference(pairs[k : k + 1])
                continue
            truncated = text > room
            if truncated:
                first += self._first_kept(pairs[k : k + 1], [text], [room], self._fast_counts)[0]
                text = room
            prefix, between, suffix = templates[special]
            parted = len(prefix) + text  # end of the text
            asked = parted + len(between)  # start of the phrase
            input_ids = np.empty(text + phrase + special.tokens, dtype=self._dtype)
            input_ids[: len(prefix)] = prefix
            input_ids[len(prefix) : parted] = ids[first : first + text]
            input_ids[parted:asked] = between
            input_ids[asked : asked + phrase] = ids[at[count + k] : at[count + k + 1]]
            input_ids[asked + phrase :] = suffix
            types = np.zeros(len(input_ids), dtype=np.uint8)
            if special is self._pair:
                types[asked:] = 1
            rows.append(Encoded(input_ids, types, truncated))
        return rows

    def encode_apart(self, texts: Sequence[str], phrases: Sequence[str] | None) -> Apart | None:
        """Encode columns of texts and phrases; only rows that must be cut need a loop. None if only `encode` can do it.

        The result is None if the fast library is not used, or if a text cannot be written as UTF-8. `phrases` is None
        for plain text.
        """
        if self._fast is None:
            return None
        try:
            text_ids, text_ends = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
            given = [""] * len(texts) if phrases is None else phrases
            aspect_ids, aspect_ends = self._fast.encode_batch(given, add_special_tokens=False, parallel=False)
        except ValueError:  # a lone surrogate
            return None
        special = self._alone if phrases is None else self._pair
        lengths, room = np.diff(text_ends), self.max_tokens - special.tokens - np.diff(aspect_ends)
        starts = text_ends[:-1].copy()
        cut = np.flatnonzero((lengths > room) & (room >= 1))
        if len(cut):
            pairs = [(texts[row], None if phrases is None else phrases[row]) for row in cut.tolist()]
            starts[cut] += self._first_kept(pairs, lengths[cut].tolist(), room[cut].tolist(), self._fast_counts)
        return Apart(
            text_ids.astype(self._dtype),
            starts,
            np.minimum(lengths, room),
            aspect_ids.astype(self._dtype),
            aspect_ends[1:],
        )

    def _encode_by_reference(self, pairs: Sequence[ModelInput]) -> list[Encoded]:
        encodings = self._tokenizer.encode_batch_fast([_given(pair) for pair in pairs])
        return [self._fitted(pair, each) for pair, each in zip(pairs, encodings, strict=True)]

    def _fitted(self, pair: ModelInput, whole: "Encoding") -> Encoded:
        """Return a row, cut to `max_tokens` if it is too long."""
        ids, types = whole.ids, whole.type_ids
        over = len(ids) - self.max_tokens
        if over > 0:
            text = whole.sequence_ids.count(0)
            if text > over:
                (first,) = self._first_kept([pair], [text], [text - over], self._reference_counts)
                begin = whole.sequence_ids.index(0)
                kept = [
                    *range(begin),
                    *range(begin + first, begin + first + text - over),
                    *range(begin + text, len(ids)),
                ]
                ids, types = [ids[at] for at in kept], [types[at] for at in kept]
            else:
                (shortened,) = self._overlong.encode_batch_fast([_given(pair)])
                ids, types = shortened.ids, shortened.type_ids
        return Encoded(np.array(ids, dtype=self._dtype), np.array(types, dtype=np.uint8), over > 0)

    def _reference_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(each.ids) for each in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _fast_counts(self, texts: Sequence[str]) -> list[int]:
        assert self._fast is not None
        _, ends = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
        counts: list[int] = np.diff(ends).tolist()
        return counts

    def _first_kept(
        self,
        pairs: Sequence[ModelInput],
        lengths: Sequence[int],
        rooms: Sequence[int],
        count: Callable[[Sequence[str]], list[int]],
    ) -> list[int]:
        """Return the number of the first token to keep, for texts that are too long.

        Args:
            pairs: text and phrase of each row.
            lengths: number of tokens of each text.
            rooms: number of tokens of each text to keep, at least 1 and less than the length.
            count: returns the number of tokens of each text, without special tokens.
        """
        if not self._around_phrase:
            return [0] * len(pairs)
        befores, nameds = zip(*(up_to_aspect(text, phrase or "") for text, phrase in pairs), strict=True)
        counts = count([*befores, *nameds])
        return [
            first_kept(before, named, length, room)
            for before, named, length, room in zip(
                counts[: len(pairs)], counts[len(pairs) :], lengths, rooms, strict=True
            )
        ]


def _end(encoding: "Encoding", sequence: int) -> int:
    """Return the index after the last token of a sequence."""
    of = encoding.sequence_ids
    return len(of) - int(of[::-1].index(sequence))


def _given(pair: ModelInput) -> str | tuple[str, str]:
    text, phrase = pair
    return text if phrase is None else (text, phrase)


def _plain(row: Encoded) -> tuple[list[int], list[int]]:
    return row.input_ids.tolist(), row.token_type_ids.tolist()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the tokenizer at {path} cannot be read: {error}") from error
