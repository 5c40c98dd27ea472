"""Credentials in what a provider sends: what means something is refused, what is free is masked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.guarded.refused import Refused
from pipeline import contract, credentials
from pipeline.contract import Asset

ASSET = contract.template()["asset"]
SIGNED = "https://host.example/a.jpg?X-Amz-Signature=canary&id=7"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": f"see {SIGNED}"}, "title"),
        ({"descriptions": [{"lang": "de", "text": "https://u:canary@h/"}]}, "descriptions.0.text"),
        ({"file": {"uri": "https://u:canary@h/a.jpg"}}, "file.uri"),
        ({"file.uri": SIGNED}, "file.uri"),
        ({"password": "canary"}, "password"),
        ({"https://u:canary@h/": 1}, "https://***@h/"),
    ],
)
def test_the_field_that_holds_a_credential_is_named_and_its_value_is_not(
    change: dict[str, Any], field: str
) -> None:
    told = credentials.told({**ASSET, **change})
    assert told.startswith(f"{field}: it holds a credential")
    assert "canary" not in told


@pytest.mark.parametrize(
    "document", [ASSET, {**ASSET, "file": {"uri": SIGNED}}, [], "text", None, {"file": "x"}]
)
def test_a_document_without_any_is_left_to_the_contract(document: object) -> None:
    assert credentials.told(document) == ""


def test_what_is_kept_has_no_signature_and_no_secret_among_its_free_facts() -> None:
    extra = {"source": SIGNED, "token": "canary", "page": "https://host.example/?id=7"}
    asset = Asset.model_validate({**ASSET, "file": {**ASSET["file"], "uri": SIGNED}, "extra": extra})
    kept = credentials.kept(asset)
    assert kept.file.uri == "https://host.example/a.jpg"
    assert kept.extra == {
        "source": "https://host.example/a.jpg",
        "token": "***",
        "page": "https://host.example/",
    }


def test_no_field_of_what_is_kept_has_an_address_with_a_query() -> None:
    """``key`` and ``sign`` are no words that are known to sign, so the record is no fault."""
    signed = "https://host.example/a.jpg?key=canary&sign=canary"
    texts = dict.fromkeys(("title", "description", "credit_line", "copyright_notice"), f"see {signed} (c)")
    change = {**texts, "keywords": ["red", signed], "contributor": {"id": "7", "display_name": signed}}
    asset = Asset.model_validate({**ASSET, **change})
    assert credentials.told({**ASSET, **change}) == ""
    kept = credentials.kept(asset)
    assert "canary" not in kept.model_dump_json()
    assert kept.credit_line == "see https://host.example/a.jpg (c)"
    assert kept.file == asset.file


@pytest.mark.parametrize("key", ["token=1/a.jpg", "q?a=1.jpg", "password: 1/#2.jpg"])
def test_the_key_of_an_object_is_no_credential(key: str) -> None:
    assert credentials.told({**ASSET, "file": {"uri": f"s3://originals/{key}"}}) == ""


def test_masks_that_are_longer_than_what_they_hide_do_not_make_a_record_too_long() -> None:
    asset = Asset.model_validate({**ASSET, "extra": {"x": "sig=a&" * 682}})
    kept = Asset.model_validate_json(credentials.kept(asset).model_dump_json(by_alias=True))
    assert kept.extra["x"].startswith("sig=***&sig=***&")


def test_a_record_without_any_is_kept_as_it_is() -> None:
    asset = Asset.model_validate(ASSET)
    assert credentials.kept(asset).model_dump_json(by_alias=True) == asset.model_dump_json(by_alias=True)


@pytest.mark.parametrize("uri", [SIGNED, SIGNED.replace("//", "//u:canary@"), f"{SIGNED} 'canary'"])
def test_the_cells_of_a_row_keep_no_signature_and_still_show_where_a_credential_was(uri: str) -> None:
    kept = credentials.kept_cells({"file.uri": uri, "title": f"see {SIGNED}", "page": "https://h/?id=7"}, uri)
    assert "canary" not in str(kept)
    assert kept["file.uri"] == "https://host.example/a.jpg"
    assert credentials.told(kept).startswith("title: it holds a credential")
    assert kept["page"] == "https://h/"


def test_a_value_is_masked_before_a_fault_cuts_it() -> None:
    token = "canary" * 20
    with pytest.raises(ValidationError) as raised:
        Asset.model_validate({**ASSET, "is_adult": f"https://{token}@host/", f"https://{token}@host/": 1})
    assert "canary" not in contract.describe(raised.value, "a.json")


def test_a_refusal_repeats_no_credential() -> None:
    assert "canary" not in str(Refused(SIGNED, SIGNED, "rule", "got 'https://u:canary@h/'"))
