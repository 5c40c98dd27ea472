"""The measures of who is named with what, at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.card import associations, naming
from pipeline.card.associations import Counts, Pair, change, frequent, measure, pairs
from pipeline.card.matching import Ints
from pipeline.card.parts import Found
from pipeline.card.termlists import Label

WOMEN, MEN = (Label(kind="identity", category="gender", name=name) for name in ("women", "men"))
OTHER = Label(kind="identity", category="gender", name="others")
NURSE, CEO = (Label(kind="occupations", category="occupation", name=name) for name in ("nurse", "CEO"))


def counted(rows: list[set[Label]], labels: tuple[Label, ...] = (WOMEN, MEN, NURSE, CEO)) -> Counts:
    pairs_ = sorted((row, labels.index(label)) for row, named in enumerate(rows) for label in named)
    counts = Counts(labels=labels)
    found = Found(
        rows=np.array([row for row, _ in pairs_], np.int64),
        labels=np.array([one for _, one in pairs_], np.int64),
    )
    counts.add(found, len(rows), len(rows))
    return counts


def times(**numbers: int) -> list[set[Label]]:
    kinds = {
        "women": {WOMEN},
        "men": {MEN},
        "women_nurses": {WOMEN, NURSE},
        "men_nurses": {MEN, NURSE},
        "nurses": {NURSE},
        "nobody": set(),
    }
    return [kinds[name] for name, number in numbers.items() for _ in range(number)]


ROWS = times(women=60, men=80, women_nurses=40, men_nurses=20, nurses=500, nobody=500)


def test_captions_that_name_nobody_do_not_enter() -> None:
    (alone,) = pairs(counted(ROWS), 20)
    (beside,) = pairs(counted([*ROWS, *times(nurses=10_000, nobody=10_000)]), 20)
    assert alone == beside
    assert (alone.together, alone.elsewhere, alone.marked) == (40, 20, 200)
    assert alone.log2_ratio == pytest.approx(1, abs=0.05)
    assert 0 < alone.low < alone.high
    assert alone.npmi_gap > 0


def test_what_shards_hold_adds_up() -> None:
    whole = counted(ROWS)
    halves = Counts(labels=whole.labels)
    for part in (ROWS[::2], ROWS[1::2]):
        one = counted(part)
        for name in ("marked_X", "groups_G", "attributes_AX", "joint_AG", "alone_A"):
            setattr(halves, name, getattr(halves, name) + getattr(one, name))
        halves.num_rows += one.num_rows
    assert pairs(halves, 20) == pairs(whole, 20)


def test_a_pair_that_says_another_turned_around_is_left_out() -> None:
    assert [one.group for one in pairs(counted(ROWS), 20)] == [WOMEN]
    both = [*ROWS, *[{WOMEN, MEN, NURSE}] * 3]
    assert {one.group for one in pairs(counted(both), 20)} == {WOMEN, MEN}
    labels = (WOMEN, MEN, OTHER, NURSE, CEO)
    three = counted([*ROWS, *[{OTHER}] * 40, *[{OTHER, NURSE}] * 20], labels)
    assert {one.group for one in pairs(three, 20)} == {WOMEN, MEN, OTHER}


@pytest.mark.parametrize(
    ("of_attribute", "of_group", "marked", "enough"),
    [
        (20, 50, 200, True),  # five by chance in the group
        (20, 49, 200, False),
        (20, 150, 200, True),  # five by chance in the rest
        (20, 151, 200, False),
        (19, 100, 200, False),
        (200, 0, 200, False),
        (200, 200, 200, False),
    ],
)
def test_rare_pairs_are_not_tested(of_attribute: int, of_group: int, marked: int, *, enough: bool) -> None:
    assert frequent(of_attribute, of_group, marked, 20) is enough


def test_no_association_is_zero_and_groups_turned_around_change_the_sign() -> None:
    even = measure(20, 40, 100, 200)
    assert even["log2_ratio"] == pytest.approx(0)
    assert even["p"] == pytest.approx(1)
    assert even["npmi_gap"] == pytest.approx(0)
    one, other = measure(30, 40, 100, 200), measure(10, 40, 100, 200)
    assert one["log2_ratio"] == pytest.approx(-other["log2_ratio"])
    assert one["p"] == pytest.approx(other["p"])


def test_a_pair_that_never_stands_together_is_measured() -> None:
    found = measure(0, 40, 100, 200)
    assert found["npmi"] == -1
    assert -8 < found["log2_ratio"] < -5
    assert found["high"] < 0


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_pairs_called_skewed_are_those_of_the_step_up_procedure(p: list[float], level: float) -> None:
    ordered = sorted(p)
    passing = [rank for rank, value in enumerate(ordered, 1) if value <= level * rank / len(p)]
    bound = ordered[passing[-1] - 1] if passing else -1.0
    q = associations.discoveries(np.array(p))
    near = any(math.isclose(v, level * rank / len(p), rel_tol=1e-9) for rank, v in enumerate(ordered, 1))
    assert near or [value <= level for value in q.tolist()] == [value <= bound for value in p]
    assert all(value >= one * (1 - 1e-12) for value, one in zip(q.tolist(), p, strict=True))


def pair(together: int, elsewhere: int, before: Pair | None = None) -> Pair:
    total = together + elsewhere
    return Pair(
        attribute=CEO,
        group=WOMEN,
        together=together,
        attribute_total=total,
        group_total=100,
        marked=200,
        **measure(together, total, 100, 200),
        q=0.01,
    )


def test_a_change_has_an_interval_wider_than_either() -> None:
    now, before = pair(40, 10), pair(20, 20)
    found = change(now, before)
    assert found.difference == pytest.approx(now.log2_ratio - before.log2_ratio)
    assert found.high - found.low > max(now.high - now.low, before.high - before.low)


@pytest.mark.parametrize(
    ("together", "elsewhere", "shown"), [(9, 40, False), (40, 9, False), (10, 10, True), (0, 40, True)]
)
def test_nothing_of_a_pair_with_a_small_cell_is_told_but_its_direction(
    together: int, elsewhere: int, *, shown: bool
) -> None:
    row = naming.row(pair(together, elsewhere), {})
    cells = ("together", "elsewhere", "log2_ratio", "low", "high", "npmi", "npmi_gap")
    assert [row[name] is not None for name in cells] == [shown] * len(cells)
    assert row["more_with"] == ("women" if together > elsewhere else "the others")


def test_more_groups_than_bits_are_refused() -> None:
    labels = [Label(kind="identity", category="x", name=str(number)) for number in range(64)]
    with pytest.raises(ValueError, match="has 64 groups, and at most 63"):
        associations.axes(labels)
    assert len(associations.axes(labels[:63])[0].groups) == 63


def test_the_last_bit_is_counted() -> None:
    labels = tuple(Label(kind="identity", category="x", name=str(number)) for number in range(63))
    counts = counted([{labels[62]}, {labels[0]}, set()], (*labels, NURSE))
    assert counts.groups_G[[0, 62]].tolist() == [1, 1]
    assert counts.marked_X.tolist() == [2]


def test_masks_hold_every_group_of_a_row() -> None:
    rows: Ints = np.array([0, 0, 2], np.int64)
    masks = associations.masked((NURSE, WOMEN, MEN), Found(rows=rows, labels=np.array([1, 2, 2])), 3)
    assert masks.tolist() == [3, 0, 2]


def test_a_group_that_is_withheld_does_not_follow_from_the_others() -> None:
    """2,743 name nobody and 10 name men, of 2,754: so one named women."""
    shown = naming.named(counted(times(women=1, men=10, nobody=2743), (WOMEN, MEN, OTHER)), None)
    assert {row["group"]: row["assets"] for row in shown} == {
        "women": None,
        "men": None,
        "others": 0,
        naming.UNMARKED: 2743,
    }
    assert [row["share_of_marked"] for row in shown] == [None, None, 0.0, None]
