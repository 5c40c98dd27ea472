"""Laws of the playground over HTTP, as ``pardalis playground`` serves it on a run that was tuned."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from infra.cli import MISTAKE, run
from infra.options import CorpusOptions
from infra.serving.options import TokenLines
from pipeline import folding
from pipeline.encoding import Pixels
from pipeline.searching import holdings, members
from pipeline.searching.watching import Place
from retrieval.serving.queries import MAX_IMAGE
from tests import played
from tests.laws.conftest import drawing
from tests.laws.test_search_service import revocation
from tests.played import World, answered
from tests.tokenizer_service.served import bomb, picture, refused
from tokenizer_service import coding, vocabulary
from trainer import playground
from trainer.brushed import on_grid

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(300)]
GREEN, RED = "a green circle", "a red circle"
"""Red shapes may not be shown."""
THINGS = [
    {"name": "a red circle", "x0": 8, "y0": 16, "x1": 120, "y1": 128},
    {"name": "a cup", "x0": 130, "y0": 9, "x1": 256, "y1": 99},
]


def brought(http: httpx.Client, image: bytes, path: str = "/pictures") -> str:
    answer = http.post(path, content=image, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["picture"]
    return name


def masked(*boxes: tuple[int, int, int, int]) -> bytes:
    """White in the boxes, of a square of 32."""
    mask, sink = Image.new("L", (32, 32)), io.BytesIO()
    for box in boxes:
        mask.paste(255, box)
    mask.save(sink, "PNG")
    return sink.getvalue()


def pixels(image: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def kept(http: httpx.Client, name: str) -> bytes:
    answer = http.get(f"/pictures/{name}")
    assert answer.status_code == 200, answer.text
    return answer.content


def wish_of(task: str, http: httpx.Client) -> dict[str, Any]:
    image = {"image": brought(http, drawing(3)[1])}
    mask = {"mask": brought(http, masked((0, 0, 9, 9), (20, 20, 30, 24)), "/masks")}
    wishes: dict[str, dict[str, Any]] = {
        "draw": {
            "text": f"{GREEN}, it's 5 € --help",
            "samples": 3,
            "settings": {"guidance": 2, "top_p": 0.9},
        },
        "edit": {**image, "instruction": "-5 degrees", "samples": 2, "settings": {"text_guidance": 4}},
        "ground": {"caption": 'a "room"', "things": THINGS, "samples": 2, "seed": 7},
        "infill": {**image, **mask, "text": GREEN, "neighbors": 1},
        "ask": {**image, "question": "What is it?", "settings": {"max_text_tokens": 9}},
        "caption": {**image, "settings": {"max_text_tokens": 9, "temperature": 0.5}},
    }
    return {"task": task, **wishes[task]}


@pytest.mark.parametrize("task", ["draw", "edit", "ground", "infill"])
def test_a_command_that_is_told_draws_the_same_pixels(http: httpx.Client, task: str, tmp_path: Path) -> None:
    wish = wish_of(task, http)
    answer = answered(http, wish)["answer"]
    for name in ("image", "mask"):
        if name in wish:
            (tmp_path / wish[name]).write_bytes(kept(http, wish[name]))
    played.repeated(answer["command"], tmp_path)
    mine, theirs = kept(http, answer["files"][0]), (tmp_path / answer["files"][0]).read_bytes()
    assert np.array_equal(pixels(mine), pixels(theirs))
    facts = [json.loads(Image.open(io.BytesIO(one)).text["pardalis"]) for one in (mine, theirs)]  # type: ignore[attr-defined]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("long", ["", "long"])
def test_a_command_that_is_told_says_the_same_words(http: httpx.Client, long: str, tmp_path: Path) -> None:
    wishes = [{**wish_of("caption", http), "long": bool(long)}, wish_of("ask", http)]
    for wish in wishes:
        (tmp_path / wish["image"]).write_bytes(kept(http, wish["image"]))
        answer = answered(http, wish)["answer"]
        said = json.loads(played.repeated(answer["command"], tmp_path))
        assert answer["words"] in said.values()


def test_samples_stand_best_first_and_side_by_side(http: httpx.Client) -> None:
    job = answered(http, wish_of("draw", http))
    whole, *each = job["answer"]["files"]
    assert job["answer"]["scores"] == sorted(job["answer"]["scores"], reverse=True)
    assert len(each) == 3
    together = np.concatenate([pixels(kept(http, name)) for name in each], axis=1)
    assert np.array_equal(together, pixels(kept(http, whole)))
    assert job["progress"]["done"] == job["progress"]["total"] - 1 == 15  # the last is not read again


def test_a_neighbor_that_is_switched_off_is_not_drawn_with(http: httpx.Client) -> None:
    near = http.post("/neighbors", json={"text": GREEN, "k": 2}).json()["neighbors"]
    assert len(near) == 2
    wish = {"task": "draw", "text": GREEN}
    both = answered(http, wish)["answer"]
    one = answered(http, {**wish, "without": [near[0]["uid"]]})["answer"]
    none = answered(http, {**wish, "neighbors": 0})["answer"]
    assert [both["neighbors"], one["neighbors"], none["neighbors"]] == [near, near[1:], []]
    assert f"--without {near[0]['uid']}" in one["command"]
    drawn = [pixels(kept(http, answer["files"][0])) for answer in (both, one, none)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_a_caption_is_written_beside_what_its_picture_is_like(http: httpx.Client) -> None:
    wish = wish_of("caption", http)
    near = http.post("/alike", json={"picture": wish["image"], "k": 2}).json()["neighbors"]
    assert len(near) == 2
    both = answered(http, wish)["answer"]
    one = answered(http, {**wish, "without": [near[0]["uid"]]})["answer"]
    none = answered(http, {**wish, "neighbors": 0})["answer"]
    long = answered(http, {**wish, "long": True})["answer"]
    assert [each["neighbors"] for each in (both, one, none, long)] == [near, near[1:], [], []]
    assert len({each["words"] for each in (both, one, none)}) == 3
    assert "--neighbors" not in long["command"]


def test_a_caption_is_written_beside_nothing_that_its_caller_may_not_see(http: httpx.Client) -> None:
    red = http.post("/neighbors", json={"text": RED, "k": 2}).json()["neighbors"]
    hidden = {one["uid"] for one in red if not one["shown"]}
    assert hidden
    for seed in range(6):
        wish = {"task": "caption", "image": brought(http, drawing(seed)[1])}
        near = answered(http, wish)["answer"]["neighbors"]
        assert near
        assert all(one["shown"] for one in near)


def test_what_a_picture_is_like_is_asked_of_ones_own_pictures(http: httpx.Client) -> None:
    refused(http.post("/alike", json={"picture": "input-0.png", "k": 2}), 404, "no such picture")
    mine = brought(http, drawing(3)[1])
    refused(http.post("/alike", json={"picture": mine, "k": 3}), 422, "k is no number of neighbors")


def test_a_neighbor_that_may_not_be_shown_is_credited_and_not_shown(http: httpx.Client) -> None:
    (near,) = http.post("/neighbors", json={"text": RED, "k": 1}).json()["neighbors"]
    assert (near["shown"], near["description"], near["licenses"]) == (False, "", ["not-shown"])
    assert near["attribution"]
    refused(http.get(f"/thumbnails/{near['uid']}"), 404, "no such asset is shown to you")
    refused(http.post("/take", json={"uid": near["uid"]}), 404, "no such asset is shown to you")
    found = http.post("/search", json={"text": RED}).json()["results"]
    assert found
    assert near["uid"] not in [one["uid"] for one in found]
    assert answered(http, {"task": "draw", "text": RED, "neighbors": 1})["answer"]["neighbors"] == [near]


def test_a_neighbor_that_is_revoked_while_the_page_runs_is_neither_drawn_with_nor_shown(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "revoked.jsonl").write_text("")
    with (
        played.playing(world, "--revocations", str(tmp_path / "revoked.jsonl")) as process,
        httpx.Client(base_url=process.url, timeout=30) as http,
    ):
        near = http.post("/neighbors", json={"text": GREEN, "k": 2}).json()["neighbors"]
        gone = near[0]["uid"]
        assert http.get(f"/thumbnails/{gone}").status_code == 200
        taken = http.post("/take", json={"uid": gone}).json()["picture"]
        assert kept(http, taken)
        before = answered(http, {"task": "draw", "text": GREEN})
        assert before["answer"]["neighbors"] == near
        line = revocation("taken-back", target_type="asset", targets=[gone]).model_dump_json(by_alias=True)
        (tmp_path / "revoked.jsonl").write_text(line + "\n")
        until = time.monotonic() + 10
        while http.get(f"/thumbnails/{gone}").status_code == 200:
            assert time.monotonic() < until, "it is still shown"
            time.sleep(0.1)
        refused(http.post("/take", json={"uid": gone}), 404, "no such asset is shown to you")
        refused(http.get(f"/pictures/{taken}"), 404, "no such asset is shown to you")
        wish = {"task": "ask", "image": taken, "question": "What is it?"}
        refused(http.post("/jobs", json=wish), 404, "no such asset is shown to you")
        credited = http.get(f"/jobs/{before['job']}").json()["answer"]["neighbors"]
        assert credited == [{**near[0], "shown": False, "description": ""}, near[1]]
        after = http.post("/neighbors", json={"text": GREEN, "k": 2}).json()["neighbors"]
        assert len(after) == 2
        assert after[0] == near[1]
        drawn = answered(http, {"task": "draw", "text": GREEN})["answer"]["neighbors"]
        assert gone not in [one["uid"] for one in drawn]


@asynccontextmanager
async def at_once(world: World, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[..., None]]]:
    """The playground in this process, and what ends rights: it counts when the call returns."""
    file = folder / "revoked.jsonl"
    file.write_text("")
    place = Place.at(str(file))
    easel, service = playground.easel_of(world.tuned, CorpusOptions(corpus=world.corpus), None, place)

    def end(uid: str, **how: Any) -> None:
        line = revocation("ended", target_type="asset", targets=[uid], **how)
        file.write_text(line.model_dump_json(by_alias=True) + "\n")
        standing = service.watch.look()
        assert standing is not None
        service.admission.load(standing)

    door = playground.door_of(easel, service, folder, queue=4)
    transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]  # as uvicorn calls it
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http, end
    door.close()


async def taken(http: httpx.AsyncClient) -> tuple[str, str]:
    """An asset that may be shown, and the name of its picture."""
    (near,) = (await http.post("/neighbors", json={"text": GREEN, "k": 1})).json()["neighbors"]
    return near["uid"], (await http.post("/take", json={"uid": near["uid"]})).json()["picture"]


async def over(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    told: dict[str, Any] = {"state": "waiting"}
    while told["state"] in ("waiting", "running"):
        await asyncio.sleep(0.05)
        told = (await http.get(f"/jobs/{job}")).json()
    return told


def test_a_job_that_waits_with_a_picture_that_is_revoked_meanwhile_fails(
    world: World, tmp_path: Path
) -> None:
    async def asked() -> None:
        async with at_once(world, tmp_path) as (http, end):
            uid, image = await taken(http)
            wish = {"task": "caption", "image": image, "neighbors": 0, "settings": {"max_text_tokens": 250}}
            jobs = [(await http.post("/jobs", json=wish)).json()["job"] for _ in range(2)]
            end(uid)
            told = await over(http, jobs[1])
            assert (told["state"], told.get("error")) == ("failed", "no such asset is shown to you")

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("ends", "status", "error"),
    [
        ({}, 404, "no such asset is shown to you"),
        (
            {"action": "restrict", "restrict_uses": ["derived_captions"]},
            422,
            "no licence lets this picture be changed",
        ),
    ],
    ids=["revoked", "not to be changed"],
)
def test_what_was_made_of_a_picture_has_the_rights_of_that_picture(
    world: World, tmp_path: Path, ends: dict[str, Any], status: int, error: str
) -> None:
    async def asked() -> None:
        async with at_once(world, tmp_path) as (http, end):
            uid, image = await taken(http)
            png = {"Content-Type": "image/png"}
            mask = await http.post("/masks", content=masked((0, 0, 9, 9)), headers=png)
            infill = {"task": "infill", "image": image, "mask": mask.json()["picture"]}
            names = [image]
            for _ in range(2):
                job = (await http.post("/jobs", json={**infill, "image": names[-1]})).json()["job"]
                names += (await over(http, job))["answer"]["files"]
            end(uid, **ends)
            for name in names:
                assert (await http.get(f"/pictures/{name}")).status_code == (404 if status == 404 else 200)
                for wish in (infill, {"task": "edit", "instruction": "make it blue"}):
                    refused(await http.post("/jobs", json={**wish, "image": name}), status, error)

    asyncio.run(asked())


def test_a_picture_of_the_corpus_is_taken_as_the_model_sees_it(http: httpx.Client, world: World) -> None:
    uid = http.post("/search", json={"text": GREEN}).json()["results"][0]["uid"]
    small = http.get(f"/thumbnails/{uid}")
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    name = http.post("/take", json={"uid": uid}).json()["picture"]
    assert np.array_equal(pixels(kept(http, name)), easel(world).studio.picture(uid))


def test_only_what_is_brushed_is_drawn_anew(http: httpx.Client, world: World) -> None:
    """Of one brushed token, the picture is what one of the codebook's entries makes of it."""
    studio = easel(world).studio
    image, mask = brought(http, drawing(3)[1]), masked((9, 17, 11, 18))
    wish = {"task": "infill", "image": image, "mask": brought(http, mask, "/masks")}
    job = answered(http, wish)
    codes_T = vocabulary.to_codes(np.asarray(studio.ids(studio.square(kept(http, image)))))
    (place,) = on_grid(pixels(mask)[..., 0] > 0, 4).nonzero()[0]
    assert (place, job["progress"]["total"]) == (9, 1)
    possible = np.tile(codes_T, (studio.vq.config.codebook_size, 1))
    possible[:, place] = np.arange(len(possible))
    pictures = coding.decode_codes(studio.vq, possible.astype(np.uint16))
    drawn = pixels(kept(http, job["answer"]["files"][0]))
    assert any(np.array_equal(drawn, one) for one in pictures)


def test_a_mask_that_brushes_nothing_is_refused_before_the_line(http: httpx.Client) -> None:
    wish = {**wish_of("infill", http), "mask": brought(http, masked(), "/masks")}
    refused(http.post("/jobs", json=wish), 422, "the mask brushes nothing")


@pytest.mark.parametrize(
    ("image", "status", "error"),
    [
        (bomb(30_000, 30_000), 422, "broken image"),
        (bomb(9_000, 9_000), 422, "too many pixels"),
        (b"GIF89a" + bytes(100), 415, "no image"),
        (b"", 415, "no image"),
        (picture(1)[:200], 422, "broken image"),
        (picture(1, size=(3, 3)), 422, "too few pixels"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000, 422, "broken image"),
    ],
)
def test_hostile_bytes_are_refused_and_the_next_picture_is_taken(
    http: httpx.Client, image: bytes, status: int, error: str
) -> None:
    for path in ("/pictures", "/masks"):
        refused(http.post(path, content=image, headers={"Content-Type": "image/png"}), status, error)
    assert brought(http, picture(1, kind="WEBP", size=(150, 90))).startswith("input-")


def test_an_upload_that_is_too_large_is_refused_however_it_comes(http: httpx.Client) -> None:
    headers = {"Content-Type": "image/png"}
    told = http.post("/pictures", content=bytes(MAX_IMAGE + 1), headers=headers)
    refused(told, 413, "the body is too large")
    chunks = (bytes(1 << 20) for _ in range(17))
    refused(http.post("/pictures", content=chunks, headers=headers), 413, "the body is too large")
    refused(http.post("/jobs", json={"task": "draw", "text": "x" * 70_000}), 413, "the body is too large")


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/pictures", b"<svg/>", "image/svg+xml", 415),
        ("/jobs", b"{}", "text/plain", 415),
        ("/jobs", b"{", "application/json", 422),
        ("/jobs", b"[]", "application/json", 422),
        ("/jobs", b'{"task": "draw", "task": "edit"}', "application/json", 422),
        ("/jobs", b'{"task": "draw", "text": "\\ud800"}', "application/json", 422),
        ("/jobs", b'{"task": "ask", "image": "../../etc/passwd", "question": "a"}', "application/json", 404),
        ("/jobs", b'{"task": "ask", "image": "input-0.png", "question": "a"}', "application/json", 404),
        ("/take", b'{"uid": 3}', "application/json", 422),
        ("/take", b'{"uid": "../a"}', "application/json", 404),
        ("/search", b'{"text": ""}', "application/json", 422),
        ("/search", b'{"text": "a", "k": 3}', "application/json", 422),
        ("/neighbors", b'{"text": "a", "k": 3}', "application/json", 422),
        ("/neighbors", b'{"text": "a", "k": true}', "application/json", 422),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    http: httpx.Client, path: str, body: bytes, kind: str, status: int
) -> None:
    answer = http.post(path, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "value", "fix"}


@pytest.mark.parametrize(
    "path", ["/pictures/..%2f..%2fetc%2fpasswd", "/web/..%2fdoor.py", "/web/state.js", "/jobs/1", "/else"]
)
def test_no_address_leads_elsewhere(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_words_that_their_template_cannot_say_are_refused_with_the_reason(http: httpx.Client) -> None:
    wish = {**wish_of("ground", http), "caption": "a room with segmentations a cup at (1, 2) -> (3, 4)"}
    refused(http.post("/jobs", json=wish), 422, "read from its prompt as something else")


def test_a_prompt_that_is_too_long_for_the_model_fails_and_says_so(http: httpx.Client) -> None:
    job = answered(http, {"task": "draw", "text": "qz" * 500})
    assert job["state"] == "failed"
    assert "exceed the context of" in job["error"]


def test_a_job_can_be_given_up(http: httpx.Client) -> None:
    wish = {
        **wish_of("caption", http),
        "neighbors": 0,
        "settings": {"max_text_tokens": 250, "temperature": 0},
    }
    jobs = [http.post("/jobs", json=wish).json() for _ in range(3)]
    for job in reversed(jobs):
        http.post(f"/stop/{job['job']}", json={})
    states = set()
    for job in jobs:
        while (state := http.get(f"/jobs/{job['job']}").json()["state"]) in ("waiting", "running"):
            time.sleep(0.1)
        states.add(state)
    assert states == {"stopped"}


def test_another_host_name_is_refused_where_nobody_is_asked_for_a_token(http: httpx.Client) -> None:
    refused(http.get("/facts", headers={"Host": "pictures.example"}), 421, "another host")
    assert http.get("/facts", headers={"Host": "localhost:1"}).status_code == 200


def test_what_it_serves_is_described(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    listed = refused(http.get("/else"), 404, "no such route")["fix"]
    for path in paths:
        assert path in listed
    assert http.get("/healthz").json()["status"] == "ready"
    assert b"pardalis_requests" in http.get("/metrics").content


def test_beyond_loopback_a_token_is_needed(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARDALIS_SERVICE_TOKEN", raising=False)
    words = ["playground", "--run", str(world.tuned), "--corpus", world.corpus, "--host", "0.0.0.0"]  # noqa: S104  # refused
    assert run(words) == MISTAKE
    assert "there is no token for callers" in capsys.readouterr().err


def easel(world: World) -> playground.Easel:
    return playground.easel_of(world.tuned, CorpusOptions(corpus=world.corpus), None)[0]


def test_what_rights_hang_on_is_read_once_at_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def seen(*args: Any, **settings: Any) -> Any:
            read.append(f"{module.__name__}.{name}")
            return real(*args, **settings)

        monkeypatch.setattr(module, name, seen)

    counted(members, "read")
    counted(holdings, "read")
    counted(folding, "revocations")
    easel(world)
    assert len(read) == len(set(read)) == 3


def test_who_shows_no_token_gets_the_page_alone_and_each_token_has_its_own_pictures(
    world: World, tmp_path: Path
) -> None:
    ana, ben = ({"Authorization": f"Bearer {name}-{'0' * 16}"} for name in ("ana", "ben"))
    lines = "\n".join(one["Authorization"].removeprefix("Bearer ") for one in (ana, ben))
    given = TokenLines(lines=lines, source="tokens")
    opened = playground.easel_of(world.tuned, CorpusOptions(corpus=world.corpus), given)

    async def asked() -> None:
        door = playground.door_of(*opened, tmp_path, queue=4)
        transport = httpx.ASGITransport(app=door)  # type: ignore[arg-type]  # as uvicorn calls it
        async with httpx.AsyncClient(transport=transport, base_url="http://pictures.example") as http:
            for path in ("/", "/web/play.js", "/healthz"):
                assert (await http.get(path)).status_code == 200
            for path in ("/facts", "/thumbnails/acme:a0001", "/pictures/a.png", "/jobs/1"):
                refused(await http.get(path), 401, "no token")
            for path in ("/jobs", "/pictures", "/masks", "/take", "/search", "/neighbors", "/stop/1"):
                refused(await http.post(path, json={}), 401, "no token")
            png = {**ana, "Content-Type": "image/png"}
            name = (await http.post("/pictures", content=drawing(3)[1], headers=png)).json()["picture"]
            assert (await http.get(f"/pictures/{name}", headers=ana)).status_code == 200
            refused(await http.get(f"/pictures/{name}", headers=ben), 404, "no such picture")
            wish = {"task": "ask", "image": name, "question": "What is it?"}
            refused(await http.post("/jobs", json=wish, headers=ben), 404, "no such picture")
            job = (await http.post("/jobs", json=wish, headers=ana)).json()["job"]
            refused(await http.get(f"/jobs/{job}", headers=ben), 404, "no such job")
            refused(await http.post(f"/stop/{job}", json={}, headers=ben), 404, "no such job")
            door.draining = True
            refused(await http.get("/facts", headers=ana), 503, "about to end")
        door.close()

    asyncio.run(asked())
    assert "PARDALIS_SERVICE_TOKEN" not in os.environ
