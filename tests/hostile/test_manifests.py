"""What a delivery says of itself, and what lies in its folder: every lie is refused, and nothing hangs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from .made import GOOD, SHARD, Door, Parcel, license_, lines, revocation, sample, tarred
from .spoiled import (
    Make,
    a_file,
    empty,
    folder_as_manifest,
    last,
    licensed,
    linked,
    linked_folder,
    listing,
    many_files,
    nothing,
    odd_name,
    pipe,
    raw,
    revoking,
    saying,
    with_file,
)

pytestmark = pytest.mark.plan
SIGNATURE = {"alg": "ed25519", "key_id": "k", "value": "v"}
NINES = "9" * 400
ENTRY = {"path": SHARD, "sha256": hashlib.sha256(GOOD).hexdigest(), "bytes": len(GOOD), "role": "shard"}
TWICE = '"provider": "other", "provider": '
LICENSE = json.dumps(license_())

# name: (how it is made, words that the message holds: the file, the field, and what to do)
DELIVERIES: dict[str, tuple[Make, list[str]]] = {
    "path_outside": (last(path="../x.tar"), ["delivery.json: files.1.path:", "relative path"]),
    "path_outside_deeper": (last(path="shards/../../x.tar"), ["files.1.path", "without '..'"]),
    "path_absolute": (last(path="/etc/passwd"), ["files.1.path", "relative path"]),
    "path_of_windows": (last(path="shards\\x.tar"), ["files.1.path", "relative path"]),
    "path_with_a_line_feed": (last(path="shards/x.tar\n"), ["files.1.path", "relative path"]),
    "path_that_is_an_address": (last(path="https://example.org/x.tar"), ["files.1.path", "relative path"]),
    "path_with_a_null": (last(path="shards/\0.tar"), ["files.1.path", "relative path"]),
    "path_through_a_dot": (last(path="./" + SHARD), ["rule missing", "send it again"]),
    "path_with_two_slashes": (last(path="shards//acme-000000.tar"), ["files.1.path", "empty parts"]),
    "path_of_a_folder": (last(path="shards/"), ["files.1.path", "relative path"]),
    "path_of_a_drive": (last(path="C:x.tar"), ["files.1.path", "relative path"]),
    "path_turned_round": (last(path="shards/\u202erat.x"), ["files.1.path", "nobody sees"]),
    "path_of_the_manifest": (last(path="delivery.json"), ["rule", "send it again"]),
    "same_file_twice": (listing(lambda files: [*files, files[-1]]), ["rule duplicate", "keep one entry"]),
    "no_files": (saying(files=[]), ["delivery.json: files:", "list at least 1"]),
    "50_000_files_of_one_name": (many_files(50_000), ["delivery.json", "rule"]),
    "a_million_files": (many_files(1_000_000), ["delivery.json", "rule size", "at most 12582912"]),
    "5_000_faults": (saying(files=[{**ENTRY, "path": "/"}] * 5_000), ["files.0.path", "relative path"]),
    "a_file_too_few": (listing(lambda files: files[:-1]), ["rule unlisted", SHARD]),
    "a_file_that_is_not_listed": (with_file("shards/more.tar"), ["rule unlisted", "shards/more.tar"]),
    "a_file_that_is_not_there": (
        listing(lambda files: [*files, {**ENTRY, "path": "shards/b.tar"}]),
        ["rule missing", "shards/b.tar", "send it again"],
    ),
    "listed_as_licences": (
        listing(lambda files: [{**files[1], "role": "licenses"}, files[0]]),
        ["rule role"],
    ),
    "listed_as_readme": (listing(lambda files: [files[0], {**files[1], "role": "readme"}]), ["rule role"]),
    "file_name_of_no_text": (odd_name, ["rule unlisted", "\\udcff\\x1b[2J\\n.tar"]),
    "wrong_sha256": (last(sha256="0" * 64), ["rule sha256", SHARD, "send the file again"]),
    "wrong_size": (last(bytes=len(GOOD) + 1), ["rule size", SHARD, "send the file again"]),
    "size_of_400_digits": (raw(lambda text: text.replace(str(len(GOOD)), NINES)), ["rule number", "string"]),
    "negative_size": (last(bytes=-1), ["files.1.bytes", "make it at least 0"]),
    "samples_lie": (last(samples=7), ["rule samples", "it holds 1", "correct the number"]),
    "count_of_samples_lies": (saying(counts={"samples": 9}), ["counts.samples", "got 9, but 1 arrived"]),
    "count_of_shards_lies": (saying(counts={"shards": 2}), ["counts.shards", "correct the count"]),
    "count_of_licences_lies": (saying(counts={"licenses": 2}), ["counts.licenses", "correct the count"]),
    "count_of_nobody_knows_what": (saying(counts={"\x1b[2J": 2}), ["rule counts", "leave it out"]),
    "a_count_that_is_text": (saying(counts={"samples": "1"}), ["counts.samples", "without quotes"]),
    "negative_sequence": (saying(sequence=-1), ["sequence", "make it at least 0"]),
    "fractional_sequence": (saying(sequence=0.5), ["sequence", "whole number"]),
    "signed": (saying(signature=SIGNATURE), ["signature", "send it without one"]),
    "other_form": (saying(form="folder"), ["rule role", "'folder'", "roles are"]),
    "unknown_form": (saying(form="zip"), ["form", "got 'zip'"]),
    "unknown_kind": (saying(kind="wipe"), ["kind", "got 'wipe'"]),
    "unknown_version": (saying(schema="delivery/9.0"), ["schema", "delivery/1.0"]),
    "unknown_field": (saying(post_install="rm -rf /"), ["post_install", "remove it"]),
    "field_of_escape_codes": (saying(**{"\x1b[2J\n\u202e": 1}), ["\\x1b[2J\\n\\u202e", "remove it"]),
    "field_of_5_000_letters": (saying(**{"k" * 5_000: 1}), ["kkkk...", "remove it"]),
    "null_field": (saying(signature=None), ["signature", "leave the field out"]),
    "provider_in_capitals": (saying(provider="ACME"), ["provider", "make it match"]),
    "provider_with_a_slash": (saying(provider="../acme"), ["provider", "make it match"]),
    "id_with_a_slash": (saying(delivery_id="../../x"), ["delivery_id", "make it match"]),
    "day_that_never_was": (saying(created_at="2026-02-30T00:00:00Z"), ["created_at", "that exist"]),
    "local_time": (saying(created_at="2026-02-03T00:00:00+02:00"), ["created_at", "2026-01-31T00:00:00Z"]),
    "duplicate_keys": (raw(lambda text: text.replace('"provider": ', TWICE)), ["duplicate_key", "keep one"]),
    "not_a_number": (
        raw(lambda text: text.replace('"sequence": 0', '"sequence": NaN')),
        ["rule number", "NaN"],
    ),
    "infinity": (
        raw(lambda text: text.replace('"sequence": 0', '"sequence": 1e999')),
        ["rule number", "1e999"],
    ),
    "byte_order_mark": (raw(lambda text: "\ufeff" + text), ["rule syntax", "delivery.json"]),
    "lone_surrogate": (raw(lambda text: text.replace("acme-000000", "\\ud800", 1)), ["rule surrogate"]),
    "raw_surrogate": (raw(lambda text: text.replace("acme-000000", "\ud800", 1)), ["rule utf8", "UTF-8"]),
    "deep_nesting": (raw(lambda _: "[" * 100_000 + "]" * 100_000), ["rule depth", "flatten it"]),
    "deep_objects": (raw(lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000), ["rule depth", "flatten it"]),
    "three_million_empty_lists": (raw(lambda _: f"[{'[],' * 3_000_000}1]"), ["rule values", "delivery.json"]),
    "13_megabytes_of_blanks": (raw(lambda text: text + " " * (13 << 20)), ["rule size", "12582912"]),
    "half_a_million_faults_beside_files": (
        saying(supersedes=[1] * 500_000),
        ["delivery.json", "rule values", "split the file"],
    ),
    "a_hundred_thousand_names": (
        saying(supersedes=["x"] * 100_000),
        ["rule size", "beside its list of files"],
    ),
    "not_an_object": (raw(lambda _: "[1, 2]"), ["delivery.json", "write it as an object"]),
    "not_json": (raw(lambda _: "<html>"), ["delivery.json", "rule syntax"]),
    "an_empty_manifest": (raw(lambda _: ""), ["delivery.json", "rule syntax"]),
    "no_licences": (
        listing(lambda files: [file for file in files if file["role"] == "shard"]),
        ["licenses.jsonl", "rule"],
    ),
    "licence_of_31_february": (
        licensed(license_(valid_from="2026-02-31T00:00:00Z")),
        ["licenses.jsonl line 1: valid_from", "a day and a time that exist"],
    ),
    "licence_until_the_year_1": (
        licensed(license_(valid_until="0001-01-01T00:00:00Z")),
        ["licenses.jsonl line 1: valid_until", "2026-01-31T00:00:00Z"],
    ),
    "licence_until_the_year_10_000": (
        licensed(license_(valid_until="10000-01-01T00:00:00Z")),
        ["line 1: valid_until", "2026-01-31T00:00:00Z"],
    ),
    "licence_of_hour_24": (licensed(license_(valid_from="2026-01-01T24:00:00Z")), ["valid_from", "exist"]),
    "licence_since_a_number": (licensed(license_(valid_from=1767225600)), ["valid_from", "write it as"]),
    "licence_that_grants_by_a_word": (
        licensed(license_(uses={"ml_training": True})),
        ["line 1: uses.ml_training", "'allow' or 'deny'"],
    ),
    "licence_twice_with_two_meanings": (
        licensed(license_(), license_(licensee="Mallory")),
        ["rule ambiguous", "raise license_revision"],
    ),
    "licence_with_duplicate_keys": (
        licensed(LICENSE.replace('"uses":', '"uses": {}, "uses":')),
        ["licenses.jsonl: line 1", "duplicate_key"],
    ),
    "licence_of_100_kilobytes": (
        licensed(license_(odrl={"x": "y" * 100_000})),
        ["licenses.jsonl: line 1", "rule size", "at most 65536"],
    ),
    "licence_that_is_no_json": (licensed(LICENSE, "{'a': 1}"), ["licenses.jsonl: line 2", "rule syntax"]),
    "licence_with_an_unknown_use": (
        licensed(license_(uses={"everything": "allow"})),
        ["uses.everything", "remove it"],
    ),
    "revokes_for_another": (
        revoking(revocation(provider="rival")),
        ["revocations.jsonl", "rule provider", "a provider revokes in its own delivery"],
    ),
    "revokes_anothers_assets": (
        revoking(revocation(targets=["rival:1"])),
        ["revocations.jsonl line 1: targets", "write ASSET_ID or acme:ASSET_ID"],
    ),
    "revokes_a_content_by_its_name": (
        revoking(revocation(target_type="content_sha256", targets=["x.png"])),
        ["targets", "write 64 lower-case hex digits"],
    ),
    "revokes_without_a_record": (saying(kind="revocation"), ["revocations.jsonl", "add them"]),
    "shard_that_is_a_link": (linked(SHARD, "/etc/passwd"), ["rule missing", SHARD]),
    "licences_that_are_a_link": (linked("licenses.jsonl", "/etc/passwd"), ["rule missing", "licenses.jsonl"]),
    "manifest_that_is_a_link": (linked("delivery.json", "/etc/passwd"), ["rule syntax", "delivery.json"]),
    "manifest_that_is_a_device": (linked("delivery.json", "/dev/zero"), ["delivery.json", "no plain file"]),
    "manifest_that_is_a_pipe": (pipe("delivery.json"), ["delivery.json", "no plain file"]),
    "shard_that_is_a_pipe": (pipe(SHARD), [SHARD, "no plain file"]),
    "link_to_nothing": (linked(SHARD, "/nowhere"), [SHARD]),
    "link_to_itself": (linked(SHARD, "acme-000000.tar"), [SHARD]),
    "folder_that_is_a_link": (linked_folder, ["rule missing", SHARD]),
    "manifest_that_is_a_folder": (folder_as_manifest, ["delivery.json"]),
    "delivery_that_is_a_file": (a_file, ["delivery.json", "rule missing", "contract template"]),
    "delivery_that_is_nowhere": (nothing, ["delivery.json", "rule missing", "contract template"]),
    "delivery_that_is_empty": (empty, ["delivery.json", "rule missing", "contract template"]),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", DELIVERIES)
def test_a_delivery_that_lies_is_refused_whole(name: str, door: Door) -> None:
    make, words = DELIVERIES[name]
    make(Parcel(door.root / "delivery"))
    code, told = door.ingest(door.root / "delivery")
    assert code == 2, told
    assert "root:x:" not in told, "a file of the machine is shown to nobody"
    for word in words:
        assert word in told
    assert door.corpus.numbers() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequence": 2, "delivery_id": "b", "kind": "delta"}, ["sequence", "rule gap", "ingest that first"]),
        (
            {"sequence": 0, "delivery_id": "b", "kind": "delta"},
            ["sequence", "rule repeated", "number the newer"],
        ),
        ({"sequence": 1, "delivery_id": "b", "kind": "full"}, ["kind", "rule full", "send a delta"]),
        ({"sequence": 1, "kind": "delta"}, ["delivery_id", "rule changed", "never changes"]),
        ({"sequence": 10**19 - 1, "delivery_id": "b", "kind": "delta"}, ["sequence", "rule gap"]),
    ],
    ids=["gap", "number_again", "second_full", "id_again", "number_of_19_digits"],
)
def test_a_delivery_that_does_not_follow_leaves_the_corpus_as_it_was(
    changes: dict[str, Any], words: list[str], door: Door
) -> None:
    Parcel(door.root / "first").good()
    assert door.ingest(door.root / "first")[0] == 0
    Parcel(door.root / "second").good(tarred(sample("other")), **changes)
    code, told = door.ingest(door.root / "second")
    assert code == 2, told
    for word in words:
        assert word in told
    assert door.corpus.numbers() == [1]


def test_a_licence_that_has_no_use_for_a_corpus_keeps_its_assets_out(door: Door) -> None:
    ended = license_(valid_from="9999-12-31T23:59:59Z", valid_until="1000-01-01T00:00:00Z")
    Parcel(door.root / "delivery").good(licenses=lines(ended))
    code, told = door.ingest(door.root / "delivery")
    assert code == 0, told
    assert "rejected:not_yet_valid 1" in told


def test_a_delivery_of_no_samples_adds_none(door: Door) -> None:
    Parcel(door.root / "delivery").good(tarred({}))
    code, told = door.ingest(door.root / "delivery")
    assert code == 0, told
    assert "0 in: kept 0" in told


def test_a_link_is_no_file_of_a_delivery_even_if_it_leads_to_what_is_listed(door: Door) -> None:
    parcel = Parcel(door.root / "delivery")
    parcel.good()
    place, away = parcel.folder / SHARD, Path(door.root, "mounted.tar")
    place.rename(away)
    place.symlink_to(away)
    code, told = door.ingest(parcel.folder)
    assert code == 2
    assert "a link is none" in told


@pytest.mark.parametrize("name", [".DS_Store", "shards/Thumbs.db", "DESKTOP.INI", "._x.tar", ".git/x.tar"])
def test_what_an_operating_system_left_in_a_folder_is_no_part_of_a_delivery(name: str, door: Door) -> None:
    with_file(name)(Parcel(door.root / "delivery"))
    code, told = door.ingest(door.root / "delivery")
    assert code == 0, told
