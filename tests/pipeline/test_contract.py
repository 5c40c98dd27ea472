"""The contract's records: what they take, what they say about the rest, and that their schema agrees."""

from __future__ import annotations

import copy
import itertools
import re
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import contract
from pipeline.asset import Record

KINDS: dict[str, type[Record]] = {
    "asset": contract.Asset,
    "license": contract.License,
    "revocation": contract.Revocation,
    "delivery": contract.Delivery,
}
VALIDATOR = jsonschema.Draft202012Validator(contract.json_schema())
GONE = object()


def changed(kind: str, path: str, value: Any) -> dict[str, Any]:
    """The example of a record with one field set, or taken away."""
    record = copy.deepcopy(contract.template()[kind])
    *parents, last = path.split(".")
    inner: Any = record
    for parent in parents:
        inner = inner[int(parent)] if isinstance(inner, list) else inner.setdefault(parent, {})
    at = int(last) if isinstance(inner, list) else last
    if value is not GONE:
        inner[at] = value
    elif isinstance(inner, list) or at in inner:
        del inner[at]
    return record


def taken(kind: str, record: dict[str, Any]) -> bool:
    try:
        KINDS[kind].model_validate(record)
    except ValidationError:
        return False
    return True


def paths(value: Any, before: str = "") -> list[str]:
    """Every field of a record, dotted."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(f"{before}{name}", inner) for name, inner in inside]
    return [path for name, inner in found for path in (name, *paths(inner, f"{name}."))]


VALUES = (
    *(GONE, None, 0, 1, -1, 70_000, True, False, 0.5),
    *("", "x", "A-b", "yes", "no", "none", "unknown", "revoked", "only", "asset", "x" * 129, "NL"),
    *("2026-01-31T00:00:00Z", "2026-01-31", "a" * 64, "allow", "contract", "spdx", "restrict"),
    *([], ["x"], ["x", "x"], [1], ["a"] * 300, [None], [{"name": "n"}]),
    *({}, {"x": 1}, {"x": "y"}, {"name": "n"}),
)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "Caf\u00e9.jpg",
            "Cafe\u0301.jpg",
            "a&b.jpg",
            "日本/写真.png",
            "\u2764\ufe0f.jpg",
            "\U0001f44d.jpg",
        ),
        *("at 1.00\u202fPM.png", "!#$%^*~`[]{};?<>|\"'.jpg", "12:30.jpg", "..a/b..", "x" * 512, ".DS_Store"),
    ],
)
def test_a_path_is_any_name_that_people_give_files(path: str) -> None:
    record = changed("delivery", "files.0.path", path)
    assert (taken("delivery", record), VALIDATOR.is_valid(record)) == (True, True)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/a", "..", "../a", "a/..", "a/../b", "a//b", "a/", "a\\b", "C:/x", "c:x", "https://host/x"),
        *("a\nb", "a\0", "a\x85b", "a\u2028b", "a\u202eb", "a\u2067b", "a\u200bb", "\ufeffa", "x" * 513),
    ],
)
def test_a_path_leads_nowhere_else_and_hides_nothing(path: str) -> None:
    record = changed("delivery", "files.0.path", path)
    assert (taken("delivery", record), VALIDATOR.is_valid(record)) == (False, False)


def test_a_path_has_no_characters_beyond_the_schema_that_nobody_sees() -> None:
    assert not taken("delivery", changed("delivery", "files.0.path", "a\U000e0041.jpg"))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_and_the_records_take_and_refuse_the_same(kind: str) -> None:
    definitions = VALIDATOR.schema["$defs"]
    schema = VALIDATOR.evolve(schema={"$ref": f"#/$defs/{kind}", "$defs": definitions})
    fields = sorted({*paths(contract.template()[kind]), *definitions[kind]["properties"]})
    for field, value in itertools.product(fields, VALUES):
        if field.startswith("targets") and ":" in str(value):
            continue  # no schema can say that the prefix of a target is the record's own provider
        record = changed(kind, field, value)
        assert taken(kind, record) == schema.is_valid(record), (field, value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_are_valid_and_are_written_back_as_they_were_read(kind: str) -> None:
    example = contract.template()[kind]
    VALIDATOR.validate(example)
    record = KINDS[kind].model_validate(example)
    assert record.model_dump(mode="json") == example
    assert KINDS[kind].model_validate_json(record.model_dump_json()) == record


def test_the_schema_is_a_schema_with_the_four_records() -> None:
    schema = contract.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(KINDS) <= set(schema["$defs"])
    assert {"license_ids", "contributor", "file"} <= set(schema["$defs"]["asset"]["required"])


@pytest.mark.parametrize(
    ("kind", "path", "value", "told"),
    [
        ("asset", "has_people", GONE, "f: has_people: Field required; add it"),
        ("asset", "asset_id", "a.b", "f: asset_id: .*, got 'a.b'; make it match"),
        ("asset", "is_adult", "no", "f: is_adult: .*, got 'no'; write true or false, without quotes"),
        ("asset", "asset_revision", "3", "f: asset_revision: .*, got '3'; write it as a whole number"),
        ("asset", "title", None, "f: title: null is no value here, got None; leave the field out"),
        ("asset", "grant", "all", "f: grant: .*, got 'all'; remove it; free facts go under extra"),
        ("asset", "status", "gone", "f: status: .*, got 'gone'; write 'active', 'revoked' or 'superseded'"),
        ("asset", "license_ids", [], "f: license_ids: .*; list at least 1"),
        ("asset", "license_ids", ["a", "a"], "f: license_ids: an entry is given twice.*; keep one of them"),
        ("asset", "license_ids", "a", "f: license_ids: .*, got 'a'; write it as a list"),
        ("asset", "file.bytes", 0, "f: file.bytes: .*, got 0; make it at least 1"),
        ("asset", "file.width", 65_501, "f: file.width: .*, got 65501; make it at most 65500"),
        ("asset", "description", "", "f: description: .*; write at least 1 character"),
        ("asset", "description", "x" * 4001, r"f: description: .*xx\.\.\.; shorten it to 4000 characters"),
        ("asset", "date_created", "2024-02-30T00:00:00Z", "not on the calendar.*; write a day and a time"),
        ("asset", "date_created", "2024-02-03", "not a UTC time, got '2024-02-03'; write it as 2026-"),
        ("asset", "status", "revoked", "f: revoked_at: a revoked asset says when; add revoked_at"),
        ("asset", "releases.model", "unknown", "f: releases.model: has_people is no; make it"),
        ("asset", "contributor.id", "c\u202e7", "f: contributor.id: an id holds a control character"),
        ("license", "contract_id", GONE, "f: contract_id: a contract has a number; add contract_id"),
        (
            "license",
            "expression",
            "MIT",
            "f: expression: a contract is no SPDX licence; write LicenseRef-NAME",
        ),
        ("license", "territory.mode", "only", "f: territory.countries: mode only names no country; list"),
        (
            "license",
            "attribution_template",
            GONE,
            "f: attribution_template: attribution is required; say how",
        ),
        ("license", "valid_until", GONE, "f: valid_until: Field required; add it"),
        ("license", "uses.generation", GONE, "f: uses.generation: Field required; add it"),
        (
            "revocation",
            "action",
            "restrict",
            "f: restrict_uses: restrict names no use; list the uses that end",
        ),
        ("revocation", "targets", ["other:1"], "f: targets: 'other:1' belongs to another provider; .*acme:"),
        (
            "revocation",
            "target_type",
            "content_sha256",
            "f: targets: a content is named by its hash; write 64",
        ),
        ("delivery", "files.0.path", "../x", "f: files.0.path: not a path inside the delivery, got '../x'"),
        ("delivery", "files.0.path", "/x", "f: files.0.path: not a path inside the delivery, got '/x'"),
    ],
)
def test_a_fault_names_file_field_value_and_fix(kind: str, path: str, value: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate(changed(kind, path, value))
    text = contract.describe(caught.value, "f")
    assert "\n" not in text
    assert re.search(told, text), text


def test_every_fault_of_a_record_is_told() -> None:
    record = changed("asset", "asset_id", "a.b") | {"is_adult": 0, "status": ""}
    with pytest.raises(ValidationError) as caught:
        contract.Asset.model_validate(record)
    assert contract.describe(caught.value, "a.json").count("a.json: ") == 3
    assert contract.describe(caught.value, "a.json", 1).endswith("and 2 more; mend these and try again")


def test_hidden_characters_are_stripped_from_prose_and_lines_are_kept() -> None:
    record = changed("asset", "description", "a\u202eb\x00c\u2066\nd\te")
    assert contract.Asset.model_validate(record).description == "abc\nd\te"
    with pytest.raises(ValidationError, match="at least 1 character"):
        contract.Asset.model_validate(changed("asset", "description", "\u202e\x00"))


@pytest.mark.parametrize("use", ["retrieval_index", "retrieval_display", "evaluation", "commercial"])
def test_a_use_that_is_not_named_is_not_granted(use: contract.Use) -> None:
    record = contract.License.model_validate(changed("license", f"uses.{use}", GONE))
    assert not record.uses.allows(use)
    assert contract.License.model_validate(changed("license", f"uses.{use}", "allow")).uses.allows(use)
    assert not contract.License.model_validate(changed("license", f"uses.{use}", "deny")).uses.allows(use)


@pytest.mark.parametrize(
    ("uri", "taken_"),
    [
        ("https://images.example/a.jpg", True),
        ("https://images.example:8443/a.jpg?v=1#x", True),
        ("https://images.example/@user/a@2x.jpg", True),
        ("s3://bucket/a/b.jpg", True),
        ("https://user:secret@images.example/a.jpg", False),
        ("https://user@images.example/a.jpg", False),
        ("https://@images.example/a.jpg", False),
        ("https://images.example\\@evil.example/a.jpg", False),
        ("https://images.example?@evil.example/a.jpg", False),
        ("https://images.example#@evil.example/a.jpg", False),
        ("https://ima ges.example/a.jpg", False),
        ("https://images.example\n/a.jpg", False),
        ("s3://key:secret@bucket/a.jpg", False),
        ("https:///a.jpg", False),
        ("https://images.example", False),
        ("http://images.example/a.jpg", False),
        ("file:///a.jpg", False),
        (" https://images.example/a.jpg", False),
        ("HTTPS://images.example/a.jpg", False),
    ],
)
def test_an_address_has_a_host_and_a_path_and_nobodys_password(uri: str, *, taken_: bool) -> None:
    record = changed("asset", "file.uri", uri)
    assert (taken("asset", record), VALIDATOR.is_valid(record)) == (taken_, taken_)


def test_restrictions_in_words_are_carried_as_they_are_and_bounded() -> None:
    texts = ["Not for posters", "x" * 1000] * 16
    asset = contract.Asset.model_validate(changed("asset", "usage_restrictions", texts))
    assert asset.model_dump(mode="json")["usage_restrictions"] == texts
    assert contract.Asset.model_validate(contract.template()["asset"]).usage_restrictions == ()
    for wrong in ([*texts, "x"], ["x" * 1001], [""], ["\u202e"], "x", None):
        record = changed("asset", "usage_restrictions", wrong)
        assert not taken("asset", record)
        assert wrong == ["\u202e"] or not VALIDATOR.is_valid(record)  # a schema strips nothing


def test_a_licence_covers_the_whole_asset_unless_it_names_a_part() -> None:
    assert contract.License.model_validate(changed("license", "covers", GONE)).covers == ("image", "text")
    assert contract.License.model_validate(changed("license", "covers", ["text"])).covers == ("text",)


def test_times_are_instants_and_fractions_of_a_second_count() -> None:
    texts = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.5Z"]
    times = [contract.License.model_validate(changed("license", "valid_from", t)).valid_from for t in texts]
    assert times == sorted(set(times))
    assert times[0] == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_asset_has_one_name_in_the_corpus_and_one_in_tars() -> None:
    asset = contract.Asset.model_validate(contract.template()["asset"])
    assert (asset.uid, asset.member_key) == ("acme:1234567", "acme_1234567")


@given(st.sampled_from(["a-b", "ab", "a-b-"]), st.sampled_from(["1", "_1", "b_1", "-_1"]))
def test_no_two_assets_share_a_member_name(provider: str, asset_id: str) -> None:
    record = changed("asset", "asset_id", asset_id) | {"provider": provider}
    key = contract.Asset.model_validate(record).member_key
    assert key.split("_", 1) == [provider, asset_id]


def test_records_cannot_be_changed() -> None:
    asset = contract.Asset.model_validate(contract.template()["asset"])
    with pytest.raises(ValidationError, match="frozen"):
        asset.status = "revoked"
