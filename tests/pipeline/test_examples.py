"""Which form of a caption a document says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import captions, examples
from pipeline.captions import COLOR, DESCRIPTION, KEYWORD, KINDS, LONG, CaptionConfig
from pipeline.examples import PLAIN, FormWeights
from pipeline.tokenized import Tokens

TOKENS = Tokens(
    revision=0,
    licenses=("royalty-free",),
    contributor="c1",
    codes=np.zeros(4, np.uint16),
    texts=tuple(np.full(1, number, np.uint16) for number in range(6)),
    kinds=(DESCRIPTION, KEYWORD, KEYWORD, KEYWORD, LONG, LONG),
)


def drawn(weights: FormWeights, count: int = 4000) -> NDArray[np.float64]:
    """How often each form is said."""
    rng = np.random.default_rng(0)
    said = [int(examples.form(TOKENS, weights=weights, rng=rng)[0]) for _ in range(count)]
    return np.bincount(said, minlength=6) / count


@pytest.mark.long
def test_the_kind_is_drawn_first_so_that_many_keywords_do_not_drown_the_description() -> None:
    weights = FormWeights(description=0.5, keyword=0.3, color=7, long=0.2, rank_power=0)
    assert drawn(weights) == pytest.approx([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], abs=0.03)


def test_what_a_catalog_names_first_is_said_most() -> None:
    weights = FormWeights(description=0.5, keyword=0.3, color=0, long=0.2, rank_power=1)
    sixths = np.array([6, 3, 2]) / 11 * 0.3
    assert drawn(weights) == pytest.approx([0.5, *sixths, 0.2 * 2 / 3, 0.2 / 3], abs=0.03)


def test_a_held_out_document_says_the_description_as_licensed() -> None:
    assert drawn(PLAIN).tolist() == [1, 0, 0, 0, 0, 0]


def test_every_kind_of_form_has_a_weight_and_every_weight_a_kind() -> None:
    assert set(FormWeights.model_fields) == {*KINDS, "rank_power"}
    found = captions.forms("red apple", ["fruit", "red"], "green", config=CaptionConfig(forms=32), name="a")
    assert {form.kind for form in found} == {DESCRIPTION, KEYWORD, COLOR, LONG}
    assert found[0].kind == DESCRIPTION
