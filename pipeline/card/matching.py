"""Which terms stand in which rows, for a shard's texts at once: no loop over texts.

Words are runs of letters and digits, without regard to case, as ``pipeline.reviewing.identity_terms`` reads
them. The phrases are a tree of words, and all places of all texts walk down it together. Shapes: N words of
the texts, M matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.card.termlists import Label, TermList

APART = r"[^\pL\pN]+"
"""What parts words, for Arrow's RE2."""
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of many texts, end to end."""

    words: pa.Array
    """[N]; an empty one stands where a text begins or ends with what is no word."""
    text_N: Ints

    @staticmethod
    def of(texts: pa.Array) -> Words:
        lists = pc.split_pattern_regex(pc.utf8_lower(texts), pattern=APART)
        return Words(
            words=pc.list_flatten(lists), text_N=np.asarray(pc.list_parent_indices(lists)).astype(np.int64)
        )

    def codes(self, known: pa.Array) -> Ints:
        """[N]: place of each word among those known; -1 for others."""
        return np.asarray(pc.fill_null(pc.index_in(self.words, value_set=known), -1)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    labels: tuple[Label, ...]
    known: pa.Array
    """Every word of every phrase, once."""
    steps: Ints
    """Sorted: node x number of words + word, wherever the tree goes on."""
    nodes: Ints
    """Where it goes."""
    starts: Ints
    """[nodes + 1]: the labels of a node are ``ends[starts[node] : starts[node + 1]]``."""
    ends: Ints

    @staticmethod
    def of(lists: Sequence[TermList]) -> Matcher:
        phrases = [(label, one) for found in lists for label, ones in found.phrases.items() for one in ones]
        labels = tuple(dict.fromkeys(label for label, _ in phrases))
        number = {label: place for place, label in enumerate(labels)}
        words = sorted({word for _, phrase in phrases for word in phrase})
        code = {word: place for place, word in enumerate(words)}
        tree: dict[int, int] = {}
        found: list[set[int]] = [set()]
        for label, phrase in phrases:
            node = 0
            for word in phrase:
                node = tree.setdefault(node * len(words) + code[word], len(found))
                if node == len(found):
                    found.append(set())
            found[node].add(number[label])
        steps = np.array(sorted(tree), np.int64)
        return Matcher(
            labels=labels,
            known=pa.array(words),
            steps=steps,
            nodes=np.array([tree[step] for step in steps.tolist()], np.int64),
            starts=np.cumsum([0, *(len(ends) for ends in found)]),
            ends=np.array([end for ends in found for end in sorted(ends)], np.int64),
        )

    def texts(self, texts: pa.Array) -> tuple[Ints, Ints]:
        """[M] texts and [M] labels of all that is found, some of it twice."""
        words = Words.of(texts)
        code_N = words.codes(self.known)
        (at,) = np.nonzero(code_N >= 0)
        node = np.zeros(len(at), np.int64)
        found_texts, found_labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        length = 0
        while len(at):
            at, node = self._further(code_N, at, node, length)
            sizes = self.starts[node + 1] - self.starts[node]
            shift = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            found_labels.append(self.ends[np.repeat(self.starts[node], sizes) + shift])
            found_texts.append(np.repeat(words.text_N[at], sizes))
            length += 1
            inside = at + length < len(code_N)
            at, node = at[inside], node[inside]
            same = (code_N[at + length] >= 0) & (words.text_N[at + length] == words.text_N[at])
            at, node = at[same], node[same]
        return np.concatenate(found_texts), np.concatenate(found_labels)

    def _further(self, code_N: Ints, at: Ints, node: Ints, length: int) -> tuple[Ints, Ints]:
        """One word down the tree, where it goes on."""
        wanted = node * len(self.known) + code_N[at + length]
        place = np.minimum(np.searchsorted(self.steps, wanted), len(self.steps) - 1)
        there = self.steps[place] == wanted
        return at[there], self.nodes[place[there]]

    def rows(self, captions: pa.Array, keywords: pa.Array) -> tuple[Ints, Ints]:
        """Each row that has a label, with the label, once: sorted pairs. No term spans two texts."""
        texts = pa.concat_arrays([captions, pc.list_flatten(keywords)])
        of_text = np.concatenate(
            [np.arange(len(captions)), np.asarray(pc.list_parent_indices(keywords)).astype(np.int64)]
        )
        text_M, label_M = self.texts(texts)
        pairs = distinct(of_text[text_M] * len(self.labels) + label_M)
        rows, labels = np.divmod(pairs, max(len(self.labels), 1))
        return rows, labels


def distinct(values: Ints) -> Ints:
    """Each once, sorted; none is negative. Numpy 2.4 hashes: 6.7 s for 775,000 numbers of a narrow range.

    >>> distinct(np.array([3, 1, 3])).tolist()
    [1, 3]
    """
    ordered = np.sort(values)
    once: Ints = ordered[np.diff(ordered, prepend=-1) != 0]
    return once


def among(values: Ints, ordered: Ints) -> NDArray[np.bool_]:
    """Which values are among the ordered ones.

    >>> among(np.array([3, 4]), np.array([1, 3])).tolist()
    [True, False]
    """
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == values
    return found
