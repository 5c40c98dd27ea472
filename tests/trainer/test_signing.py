"""What a drawn picture says of itself, read back by Pillow, by our own reader and by the C2PA library's."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import c2pa as sdk
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from PIL import Image

from pipeline import c2pa
from pipeline.searching.library import Found
from tests.pipeline import signing as certificates
from trainer import signing
from trainer.doing import Edit
from trainer.signing import Signer

FACTS: dict[str, Any] = {
    "prompt": "a red circle",
    "seed": 3,
    "neighbors": [{"uid": "acme:1", "licenses": ["acme-data-2026"], "attribution": "Acme / Ada"}],
    "model": {"run": "f00d", "checkpoint": "step-4"},
}
PICTURE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    who = certificates.identity()
    (tmp_path / "cert.pem").write_bytes(who.chain)
    (tmp_path / "key.pem").write_bytes(who.key)
    return Signer(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def active(image: bytes) -> dict[str, Any]:
    """The manifest, of a file that is as it was signed."""
    with (
        sdk.Context.from_dict(dict(c2pa.SETTINGS)) as context,
        sdk.Reader(io.BytesIO(image), context=context) as reader,
    ):
        store = json.loads(reader.json())
    assert store["validation_state"] == "Valid"
    manifest: dict[str, Any] = store["manifests"][store["active_manifest"]]
    return manifest


def assertions(image: bytes) -> dict[str, Any]:
    return {one["label"]: one["data"] for one in active(image)["assertions"]}


def test_a_picture_tells_how_it_was_made_and_keeps_its_pixels() -> None:
    with Image.open(io.BytesIO(signing.png(PICTURE, FACTS))) as image:
        assert json.loads(image.info["pardalis"]) == FACTS
        assert np.array_equal(np.asarray(image), PICTURE)


def test_credentials_in_an_address_are_not_told() -> None:
    image = signing.png(PICTURE, {"command": "pardalis sample --corpus s3://name:pass1234@host/corpus"})
    assert b"pass1234" not in image


def test_a_signed_picture_says_by_whom_with_what_and_whom_to_credit(signer: Signer) -> None:
    image = signer.signed(signing.png(PICTURE, FACTS), FACTS)
    found = assertions(image)
    (action,) = found["c2pa.actions.v2"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", signing.DRAWN)
    assert found[signing.MADE] == FACTS
    assert active(image)["claim_generator_info"][0]["name"] == "pardalis"
    with Image.open(io.BytesIO(image)) as picture:
        assert json.loads(picture.info["pardalis"]) == FACTS


def test_our_own_reader_reads_the_manifest_and_finds_nothing_forbidden(signer: Signer) -> None:
    image = signer.signed(signing.png(PICTURE, FACTS), FACTS)
    assert c2pa.read(image, c2pa.SETTINGS) == ({"entries": []}, [])


@pytest.mark.parametrize(
    ("task", "given", "done", "source"),
    [
        ("draw", {}, ["created"], signing.DRAWN),
        ("control", {"map": "inputTo"}, ["created"], signing.DRAWN),
        ("edit", {"image": "parentOf"}, ["opened", "edited"], signing.CHANGED),
        ("infill", {"image": "parentOf", "mask": "inputTo"}, ["opened", "edited"], signing.CHANGED),
    ],
)
def test_a_manifest_says_what_was_done_with_the_pictures_that_were_given(
    signer: Signer, task: str, given: dict[str, str], done: list[str], source: str
) -> None:
    facts = {**FACTS, "task": task, **{name: {"name": f"{name}.png", "sha256": "00"} for name in given}}
    image = signer.signed(signing.png(PICTURE, facts), facts)
    actions = assertions(image)["c2pa.actions.v2"]["actions"]
    assert [action["action"] for action in actions] == [f"c2pa.{one}" for one in done]
    assert actions[-1]["digitalSourceType"] == source
    told = active(image).get("ingredients", [])
    assert {one["title"]: one["relationship"] for one in told} == {f"{n}.png": r for n, r in given.items()}
    used = [one["url"] for action in actions for one in action.get("parameters", {}).get("ingredients", [])]
    assert [url.rpartition("/")[2] for url in used] == [one["label"] for one in told]


def test_the_key_is_in_no_file_and_in_no_message(
    signer: Signer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = b"".join(signer.key.read_bytes().splitlines()[1:-1])
    image = signer.signed(signing.png(PICTURE, FACTS), FACTS)
    (tmp_path / "other.pem").write_bytes(certificates.identity("http://ocsp.test").chain)
    with pytest.raises(ValueError, match="cannot sign") as refused:
        Signer(certificate=tmp_path / "other.pem", key=signer.key).check()
    out, err = capfd.readouterr()
    for told in (image, str(refused.value).encode(), repr(signer).encode(), out.encode(), err.encode()):
        assert body[60:90] not in told
        assert b"PRIVATE" not in told


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_file_that_is_not_there_is_refused(signer: Signer, missing: str) -> None:
    getattr(signer, missing).unlink()
    with pytest.raises(ValueError, match="there is no such file"):
        signer.check()


def test_a_key_of_another_kind_than_the_certificate_is_refused(signer: Signer, tmp_path: Path) -> None:
    other = Signer(certificate=signer.certificate, key=tmp_path / "ed.pem")
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    made = ed25519.Ed25519PrivateKey.generate()
    other.key.write_bytes(made.private_bytes(serialization.Encoding.PEM, *plain))
    with pytest.raises(ValueError, match="give a chain with the signer's certificate first"):
        other.check()


def test_signing_without_its_package_names_the_extra(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c2pa, "version", lambda: None)
    with pytest.raises(ValueError, match=r"pip install 'pardalis\[c2pa\]'"):
        signer.check()


def test_a_picture_that_was_given_is_told_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    told = signing.of_task(Edit(tmp_path / "a.png", "make it blue"))
    digest = hashlib.sha256(b"picture").hexdigest()
    assert told == {"task": "edit", "prompt": "make it blue", "image": {"name": "a.png", "sha256": digest}}


def test_a_picture_credits_what_it_was_drawn_with_and_does_not_repeat_its_words() -> None:
    found = Found(
        uid="acme:1", score=0.5, description="a secret", group="acme:1", licenses=("one",), attribution="Ada"
    )
    told = signing.credit(found)
    assert (told["uid"], told["licenses"], told["attribution"]) == ("acme:1", ("one",), "Ada")
    assert "a secret" not in str(told)
