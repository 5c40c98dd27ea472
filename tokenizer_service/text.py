"""Text to entries and back: byte-level BPE with single digits, as in CM3's tokenizers.

Surprising rule: text is brought to Unicode NFC once, at this door; what comes back is the NFC form, exactly,
whatever it holds: spaces at its ends, NUL, line ends of any system, code points that nobody has assigned. A
space goes before it, and comes off on the way back, so that a word has the same entries first in a text as
after another word; GPT-2's BPE has two for each. Entries count from 0; ``vocabulary.from_text`` makes ids of
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import loads

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infra.guarded import nfc
from tokenizer_service import vocabulary

Entries = NDArray[np.uint16]

MIN_ENTRIES = 256
"""One entry for each byte: that is what makes any text writable."""
MIN_PAIR_COUNT = 2
"""A pair seen once says nothing about other texts."""

_ALPHABET = frozenset(pre_tokenizers.ByteLevel.alphabet())
_SPACES = " \t\n\r"


def fit(texts: Iterable[str], *, entries: int) -> TextTokenizer:
    """Byte pair encoding (Sennrich et al., arXiv 1508.07909) over bytes, with at most ``entries`` entries.

    A small corpus runs out of pairs and yields fewer. Texts are read one after the other: what is held are
    the distinct words and how often each was seen. So the same texts, in whatever order and with however many
    threads, give the same bytes; of pairs that are as frequent, the one of the older entries goes first.
    """
    if not MIN_ENTRIES <= entries <= vocabulary.MAX_TEXT:
        raise ValueError(f"entries must be in [{MIN_ENTRIES}, {vocabulary.MAX_TEXT}], got {entries}")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        min_frequency=MIN_PAIR_COUNT,
        initial_alphabet=sorted(_ALPHABET),
        show_progress=False,
    )
    bpe.train_from_iterator(map(_normal, texts), trainer)
    return TextTokenizer(json=bpe.to_str())


def from_json(json: str) -> TextTokenizer:
    """What ``TextTokenizer.to_json`` wrote; ``ValueError`` for anything but a byte-level BPE."""
    try:
        vocab = loads(json)["model"]["vocab"].keys()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not the JSON of a BPE: {error!r}; fit it again") from error
    if not vocab >= _ALPHABET or len(vocab) > vocabulary.MAX_TEXT:
        raise ValueError(
            f"a byte-level BPE has all 256 bytes and at most {vocabulary.MAX_TEXT} entries; "
            f"this one has {len(_ALPHABET & vocab)} bytes and {len(vocab)} entries"
        )
    return TextTokenizer(json=json)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTokenizer:
    """A fitted BPE. Its JSON is all there is to it: a value that can be hashed, compared and sent."""

    json: str

    def to_json(self) -> str:
        return self.json

    @property
    def num_entries(self) -> int:
        return int(_bpe(self.json).get_vocab_size())

    @property
    def fingerprint(self) -> str:
        """sha256 of the JSON, in hex."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[Entries]:
        """Entries of each text; each text is encoded by itself."""
        found = _bpe(self.json).encode_batch_fast([_normal(text) for text in texts])
        return [np.array(encoding.ids, np.uint16) for encoding in found]

    def decode(self, entries: Sequence[int] | NDArray[np.integer]) -> str:
        """The text; a character that was cut in two comes back as U+FFFD."""
        ids = [int(entry) for entry in entries]
        if ids and (min(ids) < 0 or max(ids) >= self.num_entries):
            raise ValueError(f"entries must be in [0, {self.num_entries}), got [{min(ids)}, {max(ids)}]")
        return str(_bpe(self.json).decode(ids, skip_special_tokens=False)).removeprefix(" ")

    def cut_at_word(self, entries: Entries, limit: int) -> Entries:
        """The longest beginning of at most ``limit`` entries that ends with a word.

        A single word over the limit (or a text without spaces) is cut between two characters instead.
        """
        if limit < 0:
            raise ValueError(f"limit must not be negative, got {limit}")
        if len(entries) <= limit:
            return entries
        starts_word, starts_character = _starts(self.json)
        for starts in (starts_word, starts_character):
            places = np.flatnonzero(starts[entries[: limit + 1]])
            if places.size and places[-1] > 0:
                return entries[: places[-1]]
        return entries[:0]


def _normal(text: str) -> str:
    normal = f" {nfc.normal(text)}" if text else ""
    if not normal.isascii():
        try:
            normal.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"a lone surrogate is no character: {error}; repair the text first") from error
    return normal


@lru_cache(maxsize=8)
def _bpe(json: str) -> Tokenizer:
    return Tokenizer.from_str(json)


@lru_cache(maxsize=8)
def _starts(json: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each entry: does its first byte begin a word (it is white space), does it begin a character."""
    bpe = _bpe(json)
    written = {entry: letters for letters, entry in bpe.get_vocab().items()}
    first = [_byte_of(written[entry][0]) for entry in range(len(written))]
    return np.isin(first, list(_SPACES.encode())), np.array([byte & 0xC0 != 0x80 for byte in first])


@lru_cache(maxsize=256)
def _byte_of(letter: str) -> int:
    """The byte that a letter of the byte-level alphabet stands for: itself where it prints, else in order."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if ord(letter) < 0x100:
        return ord(letter)
    return [byte for byte in range(0x100) if byte not in prints][ord(letter) - 0x100]
