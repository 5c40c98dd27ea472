"""A rule and its bound: values as they were sent, in the precision of their column."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filtering.rules import Rule, first_verdicts, verdicts
from pipeline.reviewing import borderline

Sign = Literal["<", ">"]
EMPTY = pa.table({"row": [0]})
BOUNDS = (0.1, 0.2, 0.6, 0.7, 0.8, 0.9, -0.1, -0.6, -0.9)
KINDS = (pa.float32(), pa.float64())


def rule(sign: Sign, value: float, bound: float, kind: pa.DataType) -> Rule:
    return Rule(code="x", value=pa.chunked_array([[value]], kind), sign=sign, bound=bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", ["<", ">"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_a_value_that_was_sent_as_the_bound_meets_it_on_every_page(
    bound: float, sign: Sign, kind: pa.DataType
) -> None:
    met = rule(sign, bound, bound, kind)
    assert verdicts(EMPTY, [met])["verdict"].to_pylist() == [None]
    assert borderline.num_rejected(met) == 0
    assert borderline.num_first([met]) == [0]
    assert {one.bound: one.rejected for one in borderline.what_if(met)}[bound] == 0
    found = borderline.histogram(met)
    assert found is not None
    assert (found.rejected.sum(), found.kept.sum()) == (0, 1)


@pytest.mark.parametrize("sign", ["<", ">"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_next_value_in_float32_breaks_it(bound: float, sign: Sign) -> None:
    beyond = np.nextafter(np.float32(bound), np.float32(-9 if sign == "<" else 9))
    broken = rule(sign, float(beyond), bound, pa.float32())
    (verdict,) = verdicts(EMPTY, [broken])["verdict"].to_pylist()
    assert verdict == f"rejected:x: {beyond!s} {sign} {bound}"


def test_a_whole_number_is_compared_with_a_bound_between_two() -> None:
    assert rule(">", 2, 2.5, pa.int32()).broken.to_pylist() == [False]
    assert rule(">", 3, 2.5, pa.int32()).broken.to_pylist() == [True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_a_later_part_sees_only_what_is_left_and_verdicts_are_those_of_all_rules(
    rows: list[tuple[int, int]],
) -> None:
    table = pa.table(
        [[row[at] for row in rows] for at in (0, 1)],
        schema=pa.schema([("first", pa.int32()), ("second", pa.int32())]),
    )
    seen = []

    def first(batch: pa.Table) -> list[Rule]:
        return [Rule(code="first", value=batch["first"], sign=">", bound=1)]

    def second(batch: pa.Table) -> list[Rule]:
        seen.append(batch)
        return [Rule(code="second", value=batch["second"], sign=">", bound=1)]

    found = first_verdicts(table, [first, second])
    assert found == verdicts(table, [*first(table), *second(table)])
    assert seen[0] == table.filter(pc.less_equal(table["first"], 1))
