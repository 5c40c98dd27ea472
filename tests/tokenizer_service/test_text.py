"""The byte-level BPE: any text comes back, a fit repeats, a cut ends with a word."""

import itertools
import json
import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tokenizer_service import text, vocabulary

CORPUS = [
    "red apple, fruit",
    "green apple on a tree",
    "a slice of pizza with 12 olives",
    "birthday cake with candles",
    "the cat is on the mat, the dog is on the log",
] * 3
FITTED = text.fit(CORPUS, entries=400)
MILLION, TOGETHER = 1_000_000, 200
TIED = ["".join(letters) for letters in itertools.product("abcdef\u00e9", repeat=3)]
"""Words in which every pair of letters is as frequent as every other."""

AWKWARD = [
    *" \t\n\0\u0301\u00a0\ufeff\u200d\u0378\uffff\ue000\u212b\u0120\ufffd\u0663\u00bd\U000e0001\U0010ffff"
]
AWKWARD += [
    "",
    "  ",
    " a",
    "a ",
    "\r\n",
    "e\u0301",
    " \u0308",
    "\u1e9b\u0323",
    "\u0f71\u0f74",
    "\u1100\u1161",
]
AWKWARD += ["<s>", "[UNK]", "12", "\U0001f468\u200d\U0001f469"]
PIECES = [*AWKWARD, "red", " apple", "caf\u00e9"]
TEXTS = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=2)).map("".join)


def came_back(model: text.TextTokenizer, samples: list[str]) -> None:
    for sample, entries in zip(samples, model.encode(samples), strict=True):
        assert model.decode(entries) == unicodedata.normalize("NFC", sample)


@given(TEXTS)
def test_any_text_comes_back_in_its_normal_form(sample: str) -> None:
    came_back(FITTED, [sample])


@pytest.mark.parametrize("after", AWKWARD)
def test_awkward_texts_come_back_alone_and_beside_each_other(after: str) -> None:
    came_back(FITTED, [before + after for before in AWKWARD])


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text() | st.text("".join(PIECES)), min_size=TOGETHER, max_size=TOGETHER))
def many_come_back(samples: list[str]) -> None:
    came_back(FITTED, samples)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(MILLION // TOGETHER // 100))
def test_a_million_texts_come_back(part: int) -> None:
    """In parts: hypothesis remembers all that it drew, which was 3 GB."""
    seed(part)(many_come_back)()


@given(st.lists(st.text(), max_size=4))
def test_texts_encoded_together_are_encoded_as_alone(samples: list[str]) -> None:
    together = FITTED.encode(samples)
    alone = [FITTED.encode([sample])[0] for sample in samples]
    assert [entries.tolist() for entries in together] == [entries.tolist() for entries in alone]


def test_two_spellings_of_one_character_are_one_text() -> None:
    composed, combined = FITTED.encode(["caf\u00e9", "cafe\u0301"])
    assert composed.tolist() == combined.tolist()


def test_every_byte_has_an_entry() -> None:
    longest = bytes(range(0x80)).decode() + "".join(map(chr, range(0x80, 0x800, 16))) + "\U0001f600\uffff"
    assert FITTED.decode(FITTED.encode([longest])[0]) == unicodedata.normalize("NFC", longest)
    assert text.fit([], entries=256).num_entries == 256


def test_digits_stand_alone() -> None:
    corpus = ["12 12 12 2024 2024 2024"] * 10
    fitted = text.fit(corpus, entries=300)
    (entries,) = fitted.encode(["2024"])
    assert [fitted.decode([entry]) for entry in entries] == ["", "2", "0", "2", "4"]


def test_a_word_has_the_same_entries_wherever_it_stands() -> None:
    alone, after = FITTED.encode(["apple", "red apple"])
    assert after[-len(alone) :].tolist() == alone.tolist()


@given(st.permutations(CORPUS))
def test_a_fit_does_not_depend_on_the_order_of_the_texts(corpus: list[str]) -> None:
    assert text.fit(corpus, entries=400) == FITTED


@pytest.mark.parametrize("threads", [1, 2, pytest.param(4, marks=pytest.mark.long)])
def test_ties_are_settled_alike_in_any_order_and_with_any_number_of_threads(threads: int) -> None:
    words = random.Random(threads).sample(TIED, len(TIED))  # noqa: S311  # an order, no secret
    program = (
        "import sys; from tokenizer_service import text; "
        "print(text.fit(sys.argv[1:], entries=280).fingerprint)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == text.fit(TIED, entries=280).fingerprint
    assert text.fit(TIED, entries=vocabulary.MAX_TEXT).num_entries > 280


@pytest.mark.long
def test_a_fit_does_not_hold_its_texts() -> None:
    """100 MB of texts over 200 words, in a process that may grow by 32 MiB."""
    program = """
import resource
from tokenizer_service import text

def grown(count):
    text.fit((chr(0x4e00 + i % 200) * 333 for i in range(count)), entries=300)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

few = grown(1000)
print(grown(100_000) - few)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 32 << 10


def test_a_small_corpus_yields_fewer_entries_than_asked() -> None:
    assert 256 < text.fit(CORPUS, entries=vocabulary.MAX_TEXT).num_entries < 600


def test_entries_that_were_asked_for_bound_the_fit() -> None:
    assert FITTED.num_entries <= 400
    for entries in (255, vocabulary.MAX_TEXT + 1):
        with pytest.raises(ValueError, match="entries must be in"):
            text.fit(CORPUS, entries=entries)


def test_json_is_all_there_is_to_a_tokenizer() -> None:
    again = text.from_json(FITTED.to_json())
    assert again == FITTED
    assert again.fingerprint == FITTED.fingerprint
    assert FITTED.fingerprint != text.fit(CORPUS[1:2], entries=400).fingerprint


@pytest.mark.parametrize(
    "broken", ["", "{}", "[]", '{"model": {"vocab": {"a": 0}}}', '{"model": {"vocab": 3}}']
)
def test_what_is_no_byte_level_bpe_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"not the JSON of a BPE|all 256 bytes"):
        text.from_json(broken)


def test_a_vocabulary_that_leaves_the_text_range_is_refused() -> None:
    document = json.loads(FITTED.to_json())
    document["model"]["vocab"] |= {f"extra{i}": 400 + i for i in range(vocabulary.MAX_TEXT)}
    with pytest.raises(ValueError, match="at most 56320"):
        text.from_json(json.dumps(document))


def test_an_entry_that_does_not_exist_is_refused() -> None:
    for entries in ([FITTED.num_entries], [-1]):
        with pytest.raises(ValueError, match="entries must be in"):
            FITTED.decode(entries)


def test_a_lone_surrogate_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="repair the text"):
        FITTED.encode(["\ud800"])


@given(
    st.lists(st.sampled_from(["red", "apple", "pizza", "12", "caf\u00e9", "\U0001f600"])), st.integers(0, 12)
)
def test_a_cut_ends_with_a_word_and_is_the_longest_that_does(words: list[str], limit: int) -> None:
    (entries,) = FITTED.encode([" ".join(words)])
    cut = FITTED.cut_at_word(entries, limit)
    lengths = [len(FITTED.encode([" ".join(words[:n])])[0]) for n in range(len(words) + 1)]
    whole = max((length for length in lengths if length <= limit), default=0)
    assert len(cut) <= limit
    assert len(cut) == whole if whole else " ".join(words).startswith(FITTED.decode(cut))


def test_a_word_over_the_limit_is_cut_between_characters() -> None:
    (entries,) = FITTED.encode(["\u5b57" * 8])
    assert FITTED.decode(FITTED.cut_at_word(entries, 7)) == "\u5b57" * 2
    assert FITTED.decode(FITTED.cut_at_word(entries, 2)) == ""


def test_a_text_within_the_limit_is_left_alone() -> None:
    (entries,) = FITTED.encode(["red apple"])
    assert np.array_equal(FITTED.cut_at_word(entries, len(entries)), entries)
    with pytest.raises(ValueError, match="negative"):
        FITTED.cut_at_word(entries, -1)
