from __future__ import annotations

import numpy as np

from trainer.evaluation import judged, report
from trainer.evaluation.judged import CHANCE, COPY, MEAN, MODEL, Judged, Measure, Shown, Table


def test_above_means_the_lower_bound_of_the_paired_difference() -> None:
    rng = np.random.default_rng(0)
    copy = rng.random(200)
    told = Measure(
        name="score",
        scores={
            MODEL: (copy + 0.05).tolist(),
            CHANCE: (copy + rng.normal(0.05, 1.0, 200)).tolist(),
            COPY: copy.tolist(),
        },
    ).json(seed=0)
    assert told["verdict"] == "not above chance, above copy"
    assert told["items"] == 200
    assert told["differences"][COPY]["low"] > 0 > told["differences"][CHANCE]["low"]


def test_a_perfect_model_has_the_mean_1_and_no_doubt() -> None:
    told = Measure(name="score", scores={MODEL: [1.0] * 9, CHANCE: [0.0] * 9}).json(seed=0)
    assert told["means"][MODEL] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert told["verdict"] == "above chance"


def test_a_region_painted_in_the_mean_color_is_a_baseline_too() -> None:
    scores = {MODEL: [1.0] * 9, CHANCE: [0.0] * 9, COPY: [0.5] * 9, MEAN: [2.0] * 9}
    told = Measure(name="score", scores=scores).json(seed=0)
    assert told["verdict"] == "above chance, above copy, not above mean color of the rest"
    assert not report.above_all(told)


def test_a_task_without_items_says_so() -> None:
    assert Measure(name="score", scores={MODEL: []}).json(seed=0)["verdict"] == "no items"
    assert judged.nothing("Edits", "none are there").json(seed=0) == {
        "title": "Edits",
        "about": "none are there",
        "measures": [],
        "tables": [],
        "shown": [],
    }


def test_what_may_not_be_shown_is_no_picture() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    told = Judged(
        title="t",
        about="a",
        tables=[Table(title="x", head=["a"], rows=[[1.5]])],
        shown=[Shown(said={"true": "cat", "copy": None}, pictures={"given": None, "true": white})],
    ).json(seed=0)
    (shown,) = told["shown"]
    assert shown["said"] == {"true": "cat", "copy": None}
    assert shown["pictures"]["given"] is None
    assert shown["pictures"]["true"].startswith("data:image/png;base64,")
    assert told["tables"] == [{"title": "x", "head": ["a"], "rows": [[1.5]]}]
