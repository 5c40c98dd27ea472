"""What ``pardalis sample`` writes and says, and the command that the page tells for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.cli import run
from infra.options import CorpusOptions
from pipeline.refused import Barred
from tests.played import World
from trainer import playground
from trainer.playing import wishes

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(300)]
RED = "a red circle"
"""Red shapes may not be shown."""


def easel(world: World) -> playground.Easel:
    return playground.easel_of(world.tuned, CorpusOptions(corpus=world.corpus), None)[0]


def test_who_reads_a_picture_while_another_takes_its_place_reads_the_old_one_whole(
    world: World, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"before")
    words = ["sample", "--run", str(world.tuned), "--corpus", world.corpus, "--text", RED]
    with out.open("rb") as reader:
        assert run([*words, "--out", str(out)]) == 0
        assert reader.read() == b"before"
    assert out.read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [out]


def test_a_neighbor_that_may_not_be_shown_is_credited_without_its_words(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (near,) = easel(world).studio.neighbors(RED, 1)
    out = tmp_path / "a.png"
    words = ["sample", "--run", str(world.tuned), "--corpus", world.corpus, "--text", RED, "--neighbors", "1"]
    capsys.readouterr()
    assert run([*words, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{near.uid} '' {near.attribution}" in said
    with Image.open(out) as image:
        (told,) = json.loads(image.info["pardalis"])["neighbors"]
    assert (told["uid"], told["licenses"], told["attribution"]) == (
        near.uid,
        [*near.licenses],
        near.attribution,
    )
    assert "description" not in told


def test_words_are_told_with_the_credits_of_the_neighbors_they_were_written_beside(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = easel(world).studio
    picture = studio.picture(next(iter(studio.tokens)))
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = studio.alike(picture, 2)
    words = [
        "sample",
        "--run",
        str(world.tuned),
        "--corpus",
        world.corpus,
        "--image",
        str(tmp_path / "a.png"),
    ]
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["uid"] for one in told["neighbors"]] == [one.uid for one in found]
    assert run([*words, "--without", found[0].uid]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [found[1].uid in line for line in lines[-1:]] == [True]
    assert not any(found[0].uid in line for line in lines)


def test_a_picture_is_no_neighbor_of_itself(world: World) -> None:
    """Whatever its score is: its words count as much there as its picture."""
    studio = replace(easel(world).studio, max_score=1.0)
    for uid in list(studio.tokens)[:8]:
        near = studio.alike(studio.picture(uid), 3)
        assert near
        assert uid not in {one.uid for one in near}


def test_captions_are_written_behind_what_may_be_shown(world: World) -> None:
    studio = easel(world).studio
    (first, *_) = near = studio.alike(studio.picture(next(iter(studio.tokens))), 4)
    assert all(studio.may_display(one.uid) for one in near)
    later = replace(studio, barred=Barred(displayed=lambda: frozenset({first.uid})))
    assert not later.may_display(first.uid)
    assert first.uid not in {one.uid for one in later.alike(studio.picture(next(iter(studio.tokens))), 4)}


def test_a_caption_has_the_neighbors_that_leave_room_for_it(world: World) -> None:
    studio = easel(world).studio
    picture = studio.picture(next(iter(studio.tokens)))
    near = studio.alike(picture, 3)
    room = studio.model.section.context
    sizes = [len(studio.caption_prompt(picture, near[:number])) for number in range(4)]
    assert [len(studio.fitting(near, room - size)) for size in sizes] == [0, 1, 2, 3]
    assert studio.fitting(near, room) == []


def test_the_encoder_is_shown_pictures_however_small(world: World) -> None:
    studio = easel(world).studio
    small = np.full((9, 9, 3), 200, np.uint8)
    assert studio.alike(small, 1)
    assert len(studio.rerank(RED, small[None])) == 1


@pytest.mark.parametrize("corpus", ["s3://ana:pass1234@host/corpus", "s3://bucket/pass1234"])
def test_a_command_that_is_told_has_no_secret_in_it(
    world: World, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "pass1234")
    found = easel(world)
    found = replace(found, options=replace(found.options, corpus=corpus))
    wish = wishes.parsed({"task": "draw", "text": RED})
    command = found.order(wish, wish.options(Path)).command
    assert "pass1234" not in command
    assert "***" in command


def test_filling_in_without_words_is_asked_for_as_guidance_leads_away(world: World) -> None:
    studio = easel(world).studio
    image = studio.ids(studio.picture(next(iter(studio.tokens))))
    request = studio.infill_request(image, np.arange(len(image)) == 1, "", [])
    assert request.prompt == request.away


def test_neighbors_are_looked_for_until_there_are_as_many_as_asked_for(world: World) -> None:
    """Where only the farthest may be used, it is not among the first that are fetched."""
    studio = easel(world).studio
    (*_, last) = studio.neighbors(RED, len(studio.tokens))
    assert len(studio.neighbors(RED, len(studio.tokens))) > 9
    few = replace(studio, max_score=last.score)
    (found,) = few.neighbors(RED, 1)
    assert found.score == last.score
