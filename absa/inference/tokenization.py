"""Rows to token ids with the tokenizer's own special tokens: `[CLS] text [SEP] phrase [SEP]`, or `[CLS] text [SEP]`.

Two libraries know how: `tokenizers` is the reference and reads every tokenizer.json; `nanotoken` encodes WordPiece many
times faster. The fast one is taken where it is installed, reads the file, and gives the reference's ids on a few texts
that exercise what tokenizers differ in.

A text that does not fit is cut around the aspect (`absa.inference.excerpt`); beside a topic, which need not be in the
text, and without a phrase its start is kept. Both libraries follow the same rule, because it needs nothing from them
but the number of tokens of a text.
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
"""Text and aspect or topic; None for plain text."""

_KNOWN_WORDS: Final = 100_000  # the fast tokenizer's cache, a few MB a process
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
    """Ids of a row's special tokens: in front of the text, between text and phrase, and behind the phrase.

    Plain text has none between.
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
    """Token ids of one row and which sequence each belongs to (0 text, 1 phrase); unpadded, equal lengths.

    Ids are uint16 where the vocabulary fits (half a kilobyte for the longest row), uint32 otherwise; types are uint8.
    `truncated` is True if tokens of the text or of the phrase were left out.
    """

    input_ids: npt.NDArray[np.generic]
    token_type_ids: npt.NDArray[np.uint8]
    truncated: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.input_ids)


class Apart(NamedTuple):
    """Token ids of many texts and of their phrases, each end to end without special tokens.

    Of text i a row keeps `text_lengths[i]` tokens from `text_starts[i]` on, an offset into `text_ids`; a length
    below 1 means that the reference has to encode the row. Plain text has phrases without tokens.
    """

    text_ids: npt.NDArray[np.generic]
    text_starts: npt.NDArray[np.int64]
    text_lengths: npt.NDArray[np.int64]
    aspect_ids: npt.NDArray[np.generic]
    aspect_ends: npt.NDArray[np.int64]


class PairTokenizer:
    """Encoder of rows; of a text that is too long the tokens around the aspect are kept, or else its start.

    A row that fits has the ids of transformers' fast tokenizer for (text, phrase), or for the text alone. Only a phrase
    that fills the model on its own is shortened: then the longer of the two loses its end. No row has more than
    `max_tokens` tokens. Safe to use from several threads.

    Args:
        tokenizer: of the `tokenizers` library, without truncation.
        overlong: as `tokenizer`, truncating to `max_tokens`.
        max_tokens: most tokens of a row, the special ones included.
        task: an aspect is looked for in the text, a topic is not.
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
            path: the file.
            max_tokens: most tokens of a row, the special ones included.
            fast: whether the fast library may be used; False keeps to the reference.
            task: an aspect is looked for in the text, a topic is not.

        Raises:
            IntegrityError: the file is missing or is not a tokenizer.
        """
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        content = _read(Path(path))
        try:
            tokenizer, overlong = Tokenizer.from_str(content), Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise IntegrityError(f"{path} is no tokenizer: {error}") from error
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
        """True if the fast library encodes."""
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
        """Return the token ids of a row's text and phrase without special tokens; a phrase of plain text is empty."""
        special, end = self.template, row.tokens - len(self.template.suffix)
        asked = int(np.argmax(row.token_type_ids)) if self._is_pair else end  # the first token of the phrase
        return row.input_ids[len(special.prefix) : asked - len(special.between)], row.input_ids[asked:end]

    def _use_fast(self, content: str) -> None:
        """Take the fast tokenizer if it is there and agrees with the reference."""
        try:
            import nanotoken

            fast = nanotoken.WordPieceTokenizer.from_json(content)
        except (ImportError, ValueError):  # not installed, or not a WordPiece of BERT's kind
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
            if text < 1 or room < 1:  # the text is empty, or the phrase fills the model
                rows += self._encode_by_reference(pairs[k : k + 1])
                continue
            truncated = text > room
            if truncated:
                first += self._first_kept(pairs[k : k + 1], [text], [room], self._fast_counts)[0]
                text = room
            prefix, between, suffix = templates[special]
            parted = len(prefix) + text  # where the text ends
            asked = parted + len(between)  # where the phrase begins
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
        """Encode columns of texts and phrases with a loop over the rows to cut alone; None where only `encode` can.

        That is where the fast library is not in use, or a text cannot be written as UTF-8. Plain text has no phrases.
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
        """Cut a row that is longer than the model."""
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
        """Return for each text that is too long the number of its first token to keep.

        Args:
            pairs: text and phrase.
            lengths: tokens of each text.
            rooms: tokens that each row has room for, at least 1 and less than the length.
            count: tokens of texts, without special ones.
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
    """Return the place behind the last token of a sequence."""
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
