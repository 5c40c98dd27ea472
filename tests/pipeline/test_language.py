"""The language of captions, by the model that its package brings; without a network."""

import importlib.metadata
import re

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline import filters
from pipeline.filtering import language
from pipeline.filters import READS, FilterRules, judge
from tests.benchmarks.sentences import IN_LANGUAGES

ENGLISH = FilterRules(languages=("en",))


def verdicts(captions: list[str], rules: FilterRules) -> list[str | None]:
    table = pa.Table.from_pylist([{"description": text} for text in captions], pa.schema(READS))
    found: list[str | None] = judge(table, rules)["verdict"].to_pylist()
    return found


@pytest.mark.parametrize("code", sorted(set(IN_LANGUAGES) - {"zh"}))
def test_captions_are_kept_in_their_own_language_and_rejected_as_another(code: str) -> None:
    texts = list(IN_LANGUAGES[code])
    assert verdicts(texts, FilterRules(languages=(code,))) == [None] * len(texts)
    other = "en" if code != "en" else "ja"
    for verdict in verdicts(texts, FilterRules(languages=(other,))):
        assert verdict is not None
        assert verdict.startswith("rejected:language: ")
        assert verdict.endswith(" < 0.2")


def test_a_caption_too_short_to_tell_is_not_judged() -> None:
    assert verdicts(["bike red wall", "ein roter Apfel"], ENGLISH) == [None, None]


def test_a_script_without_spaces_is_judged_by_its_letters() -> None:
    assert language.num_words("公園のベンチで新聞を読む") == 12
    (verdict,) = verdicts(["公園のベンチで新聞を読む若い女性"], ENGLISH)
    assert verdict is not None


def test_shares_of_more_languages_add_up_and_lines_do_not_matter() -> None:
    texts = ["A young woman\nreading a newspaper", "Eine junge Frau liest die Zeitung"]
    apart = language.shares(texts, ["en"]) + language.shares(texts, ["de"])
    np.testing.assert_allclose(language.shares(texts, ["de", "en"]), apart, atol=1e-6)
    assert language.shares([], ["en"]).shape == (0,)


@pytest.mark.parametrize(
    ("code", "near"),
    [("jp", "ja, jbo, jv"), ("English", "el, eml, en, eo, es, et, eu"), ("EN", ", en, "), ("", "af, ")],
)
def test_a_code_that_the_model_does_not_know_is_refused_with_those_near_it(code: str, near: str) -> None:
    with pytest.raises(ValidationError, match=f"languages has '{code}'.* write one of them: .*{near}"):
        FilterRules(languages=("en", code))


def test_the_codes_are_the_labels_in_the_model_s_file() -> None:
    (path,) = language.WEIGHTS.paths()
    labels = {label.decode() for label in re.findall(rb"__label__([a-z]+)\0", path.read_bytes())}
    assert set(language.LANGUAGES) == labels
    assert len(language.LANGUAGES) == 176


def test_a_step_that_judges_languages_is_known_by_the_model_and_by_what_computes_with_it() -> None:
    numerics = filters.step(ENGLISH).numerics
    assert set(numerics) == {"language", "libraries"}
    assert numerics["libraries"] == {"fasttext-predict": importlib.metadata.version("fasttext-predict")}
    assert filters.step(FilterRules()).numerics == {}
