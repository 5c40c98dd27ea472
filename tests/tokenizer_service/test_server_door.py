"""The tokenizer's HTTP door on loopback: what it answers, what it refuses, and what nobody can hold up."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from fastapi.openapi.models import OpenAPI
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from infra.serving import door
from pipeline.encoding import square
from tokenizer_service import coding
from tokenizer_service.coding import Numerics
from tokenizer_service.serving.description import ERRORS
from tokenizer_service.serving.looking import Lookers, Unfit
from tokenizer_service.vq import Preprocessing

from .served import JPEG, MAX_BODY, SHAPE, TOKEN, Served, bomb, in_base64, picture, refused, served

pytestmark = pytest.mark.long
FORMATS = ["JPEG", "PNG", "WEBP"]


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served() as found:
        yield found


def expected(service: Served, images: list[bytes]) -> np.ndarray:
    """What the corpus's own step makes of them."""
    squares = np.stack([square(image, SHAPE.side, Preprocessing()) for image in images])
    numerics = Numerics(batch_images=SHAPE.max_batch)
    return coding.encode_images(service.coder.model.model, squares, numerics=numerics)


@pytest.mark.parametrize("resize", ["hamming", "linear", "bicubic", "lanczos"])
def test_a_published_model_is_shown_the_square_that_it_knows(resize: str) -> None:
    image, lookers = picture(3, kind="JPEG", size=(150, 90)), Lookers(1, 32, resize)
    found = asyncio.run(lookers.square(image))
    lookers.close()
    assert not isinstance(found, Unfit)
    assert np.array_equal(found, square(image, 32, Preprocessing(resize=resize)))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_has_the_codes_that_the_corpus_gives_it(service: Served, kind: str) -> None:
    image = picture(1, kind=kind, size=(90, 70))
    answer = service.post("/encode", content=image, headers={"Content-Type": f"image/{kind.lower()}"})
    facts = service.coder.model.facts()
    assert answer.json() == {
        "codes": expected(service, [image])[0].tolist(),
        "side": 32,
        "grid": 4,
        "codebook_size": 64,
        "fingerprint": facts.fingerprint,
    }


def test_several_images_are_answered_in_their_order(service: Served) -> None:
    images = [picture(seed, kind=FORMATS[seed % 3]) for seed in range(7)]
    answer = service.post("/encode", json={"images": in_base64(images)})
    assert answer.json()["codes"] == expected(service, images).tolist()


def test_raw_codes_are_little_endian_with_their_facts_beside_them(service: Served) -> None:
    images = [picture(seed) for seed in range(3)]
    headers = {"Accept": "application/octet-stream"}
    answer = service.post("/encode", json={"images": in_base64(images)}, headers=headers)
    told = {name: answer.headers[f"x-{name}"] for name in ("images", "grid", "dtype", "codebook-size")}
    assert told == {"images": "3", "grid": "4", "dtype": "uint16", "codebook-size": "64"}
    assert np.array_equal(np.frombuffer(answer.content, "<u2").reshape(3, 16), expected(service, images))


def drawn(service: Served, codes: np.ndarray) -> np.ndarray:
    return coding.decode_codes(
        service.coder.model.model, codes, numerics=Numerics(batch_images=SHAPE.max_batch)
    )


def test_codes_are_drawn_as_the_model_draws_them(service: Served) -> None:
    codes = np.random.default_rng(0).integers(0, 64, (3, 16))
    one = service.post("/decode", json={"codes": codes[0].tolist()})
    assert one.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(one.content))), drawn(service, codes)[0])
    several = service.post("/decode", json={"codes": codes.tolist()}).json()["images"]
    raw = {"content": codes.astype("<u2").tobytes(), "headers": {"Content-Type": "application/octet-stream"}}
    assert service.post("/decode", **raw).json()["images"] == several
    files = [Image.open(io.BytesIO(base64.b64decode(file))) for file in several]
    assert np.array_equal(np.stack(files), drawn(service, codes))


@pytest.mark.parametrize("header", [None, "Bearer wrong-" + TOKEN, "Basic " + TOKEN, "Bearer x", TOKEN])
def test_nobody_enters_without_a_token(service: Served, header: str | None) -> None:
    headers = {**JPEG, **({"Authorization": header} if header else {})}
    answer = httpx.post(f"{service.url}/encode", content=picture(1), headers=headers)
    refused(answer, 401, "token")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_body_that_is_too_large_is_refused_before_it_is_read(service: Served) -> None:
    """By its length, with a few bytes of it sent; and with no length, once it has passed the limit."""
    head = (
        f"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: image/jpeg\r\n"
    )
    with service.connected() as peer:
        peer.sendall(head.encode() + b"Content-Length: 31457280\r\n\r\nabc")
        assert peer.recv(100).startswith(b"HTTP/1.1 413 ")
    with service.connected() as peer:
        peer.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + bytes(65_536) + b"\r\n"
        for _ in range(MAX_BODY // 65_536 + 1):
            peer.sendall(piece)
        assert peer.recv(100).startswith(b"HTTP/1.1 413 ")


def test_whoever_sends_30_mb_reads_why_it_is_refused(service: Served) -> None:
    body = bytes(30_000_000)
    refused(service.post("/encode", content=body, headers=JPEG), 413, "too large")
    chunked = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    refused(service.post("/encode", content=chunked, headers=JPEG), 413, "too large")


def test_a_body_of_exactly_the_limit_is_read(service: Served) -> None:
    image = picture(1)
    padded = image + bytes(MAX_BODY - len(image))
    assert service.post("/encode", content=padded, headers=JPEG).status_code == 200
    refused(service.post("/encode", content=padded + b"x", headers=JPEG), 413, "too large")


@pytest.mark.parametrize(
    ("image", "status", "error"),
    [
        (b"<svg/>", 415, "no image"),
        (b"GIF89a" + bytes(40), 415, "no image"),
        (b"", 415, "no image"),
        (bomb(30_000, 30_000), 422, "broken image"),
        (bomb(7_072, 7_072), 422, "too many pixels"),
        (picture(1, size=(15, 40)), 422, "too few pixels"),
        (picture(1)[:200], 422, "broken image"),
    ],
)
def test_what_is_no_fit_image_is_refused_by_its_kind(
    service: Served, image: bytes, status: int, error: str
) -> None:
    refused(service.post("/encode", content=image, headers=JPEG), status, error)
    told = refused(
        service.post("/encode", json={"images": in_base64([picture(2), image])}), status, "images[1]"
    )
    assert error in told["error"]


def test_the_largest_picture_that_is_decoded_is_decoded(service: Served) -> None:
    assert service.post("/encode", content=bomb(7_000, 7_000), headers=JPEG).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "image/gif", ""])
def test_other_content_types_are_refused(service: Served, kind: str) -> None:
    refused(service.post("/encode", content=picture(1), headers={"Content-Type": kind}), 415, "content type")


def test_an_encoded_body_is_refused(service: Served) -> None:
    headers = {**JPEG, "Content-Encoding": "gzip"}
    refused(service.post("/encode", content=picture(1), headers=headers), 415, "encoded")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ({"codes": [64] * 16}, "codes[0][0] = 64"),
        ({"codes": [[0] * 16, [0] * 15 + [-1]]}, "codes[1][15] = -1"),
        ({"codes": [[0] * 15]}, "codes[0] has 15 codes"),
        ({"codes": [0.5] * 16}, "codes[0][0] = 0.5"),
        ({"codes": [True] * 16}, "codes[0][0] = True"),
        ({"codes": [2**63] * 16}, f"codes[0][0] = {2**63}"),
        ({"codes": [["0"] * 16]}, "codes[0][0] = 0"),
        ({"codes": []}, "0 in codes"),
        ({"codes": [[0] * 16] * 65}, "65 in codes"),
        ({"codes": [0] * 16, "more": 1}, "codes, more"),
        ([], "list"),
    ],
)
def test_codes_that_are_none_are_refused_by_their_place(service: Served, body: object, value: str) -> None:
    answer = service.post("/decode", json=body)
    assert answer.status_code == 422
    assert answer.json()["value"] == value


@pytest.mark.parametrize(
    "body", [b"{", b'{"codes": 1, "codes": 2}', b"[" * 5000, b'{"codes": [NaN]}', b"\xff"]
)
def test_broken_json_is_refused(service: Served, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert service.post("/decode", content=body, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("row", "error"),
    [(b"\x40" + bytes(31), "no such code"), (bytes(31), "whole number"), (b"", "whole number")],
)
def test_raw_codes_that_are_none_are_refused(service: Served, row: bytes, error: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    refused(service.post("/decode", content=row, headers=headers), 422, error)


def test_more_images_than_a_request_may_have_are_refused(service: Served) -> None:
    refused(service.post("/encode", json={"images": ["AA=="] * 65}), 422, "not that many")
    refused(service.post("/encode", json={"images": ["no base64"]}), 422, "images[0] is no base64")


def test_other_routes_and_methods_are_refused(service: Served) -> None:
    refused(httpx.get(f"{service.url}/-/routes"), 404, "no such route")
    refused(httpx.get(f"{service.url}/encode"), 405, "method")
    refused(httpx.delete(f"{service.url}/healthz"), 405, "method")


def test_a_fault_of_ours_leaves_no_trace_and_no_word_of_it(
    service: Served, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(door, "FRESH_S", 0.0)
    service.coder.dead = True
    try:
        answer = service.post("/decode", json={"codes": [0] * 16})
        assert "secret" not in answer.text
        refused(answer, 500, "a fault of the service")
        assert httpx.get(f"{service.url}/healthz").status_code == 503
    finally:
        service.coder.dead = False
    assert httpx.get(f"{service.url}/healthz").json()["status"] == "ready"


def test_the_metrics_count_requests_images_and_batches() -> None:
    with served() as service:
        for _ in range(2):
            service.post("/encode", json={"images": in_base64([picture(1), picture(2), picture(3)])})
        service.post("/decode", json={"codes": [64] * 16})
        httpx.get(f"{service.url}/anything")
        text = httpx.get(f"{service.url}/metrics").text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["pardalis_requests_total", "/encode", "200"] == 2
    assert found["pardalis_requests_total", "/decode", "422"] == 1
    assert found["pardalis_requests_total", "other", "404"] == 1
    assert found["pardalis_images_total", "/encode"] == 6
    assert found["pardalis_batch_images_count", "/encode"] == 6
    assert found["pardalis_request_seconds_count", "/encode"] == 2
    assert found["pardalis_queue_images",] == 0
    assert found["pardalis_images_per_second",] == pytest.approx(0.6)


def test_the_description_is_openapi_and_tells_every_error(service: Served) -> None:
    told = httpx.get(f"{service.url}/openapi.json").json()
    OpenAPI.model_validate(told)
    for path, example in (("/encode", {"images": in_base64([picture(1)])}), ("/decode", None)):
        operation = told["paths"][path]["post"]
        assert set(operation["responses"]) == {"200", *map(str, ERRORS)}
        given = operation["requestBody"]["content"]["application/json"]["example"]
        assert service.post(path, json=example or given).status_code == 200
    codes = told["paths"]["/encode"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert set(codes) == set(service.post("/encode", content=picture(1), headers=JPEG).json())
