"""What the rights of the members hang on: their licences, what their files say, and what revocations name.

The surprising rule: licences are weighed for kinds and not for members. All that they decide by is the
provider, the licences that a record names, whether it is editorial, and what its file says; members that are
equal in these are one kind, and a million of them are some hundred. What a revocation names may be a single
member, and is looked for in columns.

Legend: N members, in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from pipeline import embedded, folding, refs, schema, tables
from pipeline.contract import Asset, License
from pipeline.embedded import Signals, signals
from pipeline.records import REVISIONS
from pipeline.searching import said
from retrieval.serving.catalogue import whole

Mask = NDArray[np.bool_]
Licenses = Mapping[str, Mapping[str, License]]
"""By provider, then by id."""
DATE = pa.field("date", pa.date32())
SEPARATOR = "\n"
"""In no id of a licence, and in no JSON of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Members whose licences are weighed alike; one of them stands for all."""

    asset: Asset
    signals: Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What revocations of one type may name: F pairs of a row and a text."""

    rows_F: NDArray[np.int64]
    texts: pa.Array
    num_rows: int

    def mask(self, wanted: Sequence[str]) -> Mask:
        """Rows [N] that one of the texts names."""
        hit_F = np.asarray(pc.is_in(self.texts, value_set=pa.array(wanted, pa.string())), np.bool_)
        found_N = np.zeros(self.num_rows, np.bool_)
        found_N[self.rows_F[hit_F]] = True
        return found_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    kinds: tuple[Kind, ...]
    kinds_N: NDArray[np.int32]
    named: Mapping[str, Named]
    """By the type of a revocation's target."""
    credited: pa.Table
    """What a credit is made of, as of :func:`credit.facts`."""
    dates: pa.ChunkedArray
    """Days of creation, where they are known."""
    indexed_N: Mask
    """Members with a vector."""
    licenses: Licenses
    came: pa.Table
    """The revisions of all records that ever came, as ``pipeline.revisions`` has them."""

    def __len__(self) -> int:
        return len(self.kinds_N)

    def facts(self, rows: NDArray[np.int64]) -> list[dict[str, str]]:
        """What the credits of some members are made of."""
        found: list[dict[str, str]] = self.credited.take(pa.array(rows)).to_pylist()
        return found


def read(corpus: Corpus, version: Version, members: pa.Table) -> Holdings:
    """Of a version; ``members`` are its, in the order of ids."""
    came = [
        tables.read_parquet(refs.of(corpus.store, shard, REVISIONS))
        for shard in corpus.artifact(version, "records").shards.values()
    ]
    providers = sorted({folded.provider for folded in version.deliveries})
    return of(
        members,
        said.read(corpus, version, members),
        licenses={name: folding.licenses(corpus.store, version, name) for name in providers},
        came=pa.concat_tables(came).combine_chunks(),
    )


def of(
    members: pa.Table,
    records: Iterable[tuple[NDArray[np.int64], pa.Table]],
    *,
    licenses: Licenses,
    came: pa.Table,
) -> Holdings:
    """``records`` are the rows of some members and what their records said, as of :func:`said.read`."""
    kinds: dict[str, Kind] = {}
    order, codes, parts = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [said.SAID.empty_table()]
    for rows, table in records:
        order.append(rows)
        codes.append(coded(table, kinds))
        parts.append(table.select(said.SAID.names))
    back = np.argsort(np.concatenate(order))
    whole_table = pa.concat_tables(parts).combine_chunks().take(pa.array(back)).combine_chunks()
    days = pc.utf8_slice_codeunits(whole_table["date_created"], 0, 10)
    return Holdings(
        kinds=tuple(kinds.values()),
        kinds_N=np.concatenate(codes)[back],
        named=targets(members, whole_table),
        credited=credited(whole_table, whole(members[schema.DESCRIPTION.name])),
        dates=days.cast(DATE.type),
        indexed_N=np.asarray(members[schema.MAY_BE_NEIGHBOR.name], np.bool_),
        licenses=licenses,
        came=came,
    )


def coded(table: pa.Table, kinds: dict[str, Kind]) -> NDArray[np.int32]:
    """The kind of each record, as its place in ``kinds``, which grows by those that are new."""
    extracted = pc.fill_null(whole(table[schema.EXTRACTED.name]), "")
    named = pc.binary_join(whole(table["license_ids"]), SEPARATOR)
    editorial = whole(table["is_editorial"]).cast(pa.string())
    keys = pc.binary_join_element_wise(
        whole(table["provider"]), named, editorial, extracted, SEPARATOR + SEPARATOR
    )
    for key in pc.unique(keys).to_pylist():
        if key not in kinds:
            first = pc.index(keys, key).as_py()
            asset = Asset.model_validate_json(table[schema.RECORD.name][first].as_py())
            told = embedded.from_json(table[schema.EXTRACTED.name][first].as_py())
            kinds[key] = Kind(asset=asset, signals=signals(told))
    return np.asarray(pc.index_in(keys, value_set=pa.array([*kinds], pa.string())), np.int32)


def credited(table: pa.Table, descriptions: pa.Array) -> pa.Table:
    """:func:`credit.facts` of every record at once."""
    people = whole(table["contributor"])
    name, number = (pc.struct_field(people, field) for field in ("display_name", "id"))
    return pa.table(
        {
            "title": said_or(whole(table["title"]), descriptions),
            "asset_id": whole(table["asset_id"]),
            "contributor": said_or(name, number),
            "credit_line": pc.fill_null(whole(table["credit_line"]), ""),
            "attribution_text": pc.fill_null(whole(table["attribution_text"]), ""),
        }
    )


def said_or(texts: pa.Array, others: pa.Array) -> pa.Array:
    """The texts, and the others where there is none or an empty one."""
    return pc.if_else(pc.equal(pc.fill_null(texts, ""), ""), others, texts)


def targets(members: pa.Table, table: pa.Table) -> dict[str, Named]:
    """What ``pipeline.revoked`` looks at of an asset, spelled as :func:`spelled` does."""
    num, provider = table.num_rows, whole(table["provider"])
    rows_N = np.arange(num)
    contributor = pc.struct_field(whole(table["contributor"]), "id")
    single = {
        "asset": whole(members[schema.UID.name]),
        "contributor": pc.binary_join_element_wise(provider, contributor, ":"),
        "delivery": pc.binary_join_element_wise(provider, whole(table["delivery_id"]), ":"),
    }
    released = pc.struct_field(whole(table["releases"]), "model_release_ids")
    rows_F = np.asarray(pc.list_parent_indices(released), np.int64)
    releases = pc.binary_join_element_wise(provider.take(pa.array(rows_F)), pc.list_flatten(released), ":")
    # Of anybody's, and of the provider's alone.
    contents = whole(members[schema.SHA256.name])
    scoped = pa.concat_arrays([contents, pc.binary_join_element_wise(provider, contents, ":")])
    found = {kind: Named(rows_F=rows_N, texts=texts, num_rows=num) for kind, texts in single.items()}
    return {
        **found,
        "content_sha256": Named(rows_F=np.concatenate((rows_N, rows_N)), texts=scoped, num_rows=num),
        "model_release": Named(rows_F=rows_F, texts=releases, num_rows=num),
    }


def spelled(kind: str, provider: str, name: str) -> str:
    """A target of a revocation as one text; contents may be anybody's."""
    return name if kind == "content_sha256" and not provider else f"{provider}:{name}"
