"""What the demo keeps beside its page."""

from __future__ import annotations

from pathlib import Path

from infra.cli import MISTAKE, run
from trainer import demo
from trainer.demo import Places


def test_a_run_that_finds_a_step_done_leaves_the_rate_it_was_made_at(tmp_path: Path) -> None:
    places = Places(root=tmp_path)
    assert demo.known_rates(places) == {}
    made = {"event": "step", "seconds": 2.0, "rows_per_s": 5.0, "shards_made": 1}
    demo.keep_rates(places, demo.step_rates([{**made, "step": "images"}, {**made, "step": "vq"}]))
    found = {"event": "step", "step": "images", "seconds": 0.0, "rows_per_s": 0.0, "shards_made": 0}
    again = {**made, "step": "vq", "rows_per_s": 7.0}
    demo.keep_rates(places, demo.step_rates([found, again]))
    rates = {name: rate["rows_per_s"] for name, rate in demo.known_rates(places).items()}
    assert rates == {"images": 5.0, "vq": 7.0}


def test_the_demo_refuses_an_address_before_it_fetches_anything() -> None:
    assert run(["demo", "--workdir", "s3://bucket/demo"]) == MISTAKE
