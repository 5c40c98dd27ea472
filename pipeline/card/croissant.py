"""The version as a Croissant 1.1 file (MLCommons, 2026) with the fields of its RAI vocabulary.

Addresses are relative to the corpus, so that the file may lie at its root. The surprising rule: the shards
are named one by one and not by a pattern, for the folders of a corpus hold the shards of other versions too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.artifact import Artifact, artifact_name, pretty
from infra.corpus import Corpus, Version
from pipeline import schema
from pipeline.card import wording
from pipeline.card.settings import About
from pipeline.card.wording import Card
from pipeline.step import IMAGES, ROWS

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of the specification; readers warn of any other."""
CONFORMS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
COLUMNS = (
    *(schema.UID, schema.REVISION, schema.KEY, schema.SHA256, schema.DESCRIPTION, schema.KEYWORDS),
    *(schema.CATEGORIES, schema.CONTRIBUTOR, schema.WIDTH, schema.HEIGHT, schema.IMAGE_TYPE),
    *(schema.AI_GENERATED, schema.PEOPLE, schema.RELEASE, schema.LICENSES, schema.ATTRIBUTION),
    *(schema.OUTCOME, schema.SETTLED_BY, schema.REASONS),
)
"""Of the catalog, that readers are told of."""


def document(card: Card, corpus: Corpus, version: Version, about: About) -> dict[str, Any]:
    catalog = card["figures"]["rights.outcomes"]["from"]["step"]
    found = {name: corpus.artifact(version, name) for name in dict.fromkeys((catalog, "images"))}
    described = about.description or (
        f"Licensed images with captions, version {version.number}, decided as of {version.as_of}: "
        f"{wording.kept(card):,} assets of {wording.delivered(card):,} delivered."
    )
    issuer = about.issuer or wording.UNSTATED
    told = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": card["title"],
        "description": described,
        "conformsTo": list(CONFORMS),
        "citeAs": f"@misc{{corpus, title={{{card['title']}}}, version={{{version.number}}}, "
        f"year={{{version.as_of[:4]}}}, author={{{issuer}}}}}",
        "creator": {"@type": "sc:Organization", "name": issuer},
        "publisher": {"@type": "sc:Organization", "name": issuer},
        "datePublished": version.as_of[:10],
        "license": about.license_url or licenses(card),
        "url": about.url,
        "version": f"{version.number}.0.0",
        "inLanguage": languages(card),
        "distribution": list(distribution(found, catalog)),
        "recordSet": [record_set(catalog)],
        **responsible(card, about),
    }
    return {name: value for name, value in told.items() if value not in ("", [])}


def licenses(card: Card) -> list[str]:
    """Addresses of SPDX licences; contracts by their names."""
    rows = wording.values(card, "rights.licenses")
    names = (
        f"https://spdx.org/licenses/{row['expression']}" if row["kind"] == "spdx" else row["expression"]
        for row in rows
    )
    return list(dict.fromkeys(names)) or [wording.UNSTATED]


def languages(card: Card) -> list[str]:
    rows = wording.values(card, "representation.texts")
    return sorted({row["language"] for row in rows if row["language"] != wording.UNSTATED})


def distribution(found: Mapping[str, Artifact], catalog: str) -> Iterator[dict[str, Any]]:
    """The manifests, which list every shard with its sha256, and the shards."""
    for step, artifact in found.items():
        data = pretty(artifact.json())
        yield {
            "@type": "cr:FileObject",
            "@id": f"{step}-manifest",
            "name": f"{step}-manifest",
            "description": f"Every shard of the step {step} with its files, their sizes and their sha256.",
            "contentUrl": artifact_name(step, artifact.key),
            "contentSize": f"{len(data)} B",
            "encodingFormat": "application/json",
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    for step, file, kind, what in (
        (catalog, ROWS, "application/vnd.apache.parquet", "Every delivered asset, and what became of it."),
        ("images", IMAGES, "application/x-tar", "Images and captions, in WebDataset form."),
    ):
        names = [shard.name(file) for shard in found[step].shards.values() if file in shard.files]
        if names:
            name = "catalog" if file == ROWS else "images"
            yield {
                "@type": "cr:FileSet",
                "@id": name,
                "name": name,
                "description": what,
                "encodingFormat": kind,
                "includes": sorted(names),
            }


def record_set(catalog: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "assets",
        "name": "assets",
        "description": f"A row for each delivered revision of an asset, as the step {catalog} left it.",
        "key": [{"@id": "assets/uid"}, {"@id": "assets/revision"}],
        "field": [field(one) for one in COLUMNS],
    }


def field(column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    kind = column.type.value_type if is_list else column.type
    array = {"isArray": True, "arrayShape": "-1"} if is_list else {}
    return {
        "@type": "cr:Field",
        "@id": f"assets/{column.name}",
        "name": column.name,
        "description": column.metadata[b"meaning"].decode(),
        "dataType": "sc:Text" if pa.types.is_string(kind) else "sc:Integer",
        **array,
        "source": {"fileSet": {"@id": "catalog"}, "extract": {"column": column.name}},
    }


def responsible(card: Card, about: About) -> dict[str, Any]:
    """The RAI fields, from the figures."""
    forms = ", ".join(sorted({one["form"] for one in card["deliveries"]}))
    return {
        "rai:dataCollection": (
            f"{len(card['deliveries'])} deliveries under licence from "
            f"{', '.join(sorted({one['provider'] for one in card['deliveries']}))} ({forms}); nothing was "
            "crawled. Each asset is admitted by licence records alone."
        ),
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": [
            f"{row['step']}: {row['outcome']} {row['code']}, {wording.number(row['assets'])} assets"
            for row in wording.values(card, "rights.outcomes")
            if row["step"]
        ]
        or ["Nothing was left out."],
        "rai:dataAnnotationProtocol": [
            "Captions by language and origin, as the records state it: "
            + wording.listed(wording.values(card, "representation.primary_text"), "language", "origin")
        ],
        "rai:dataBiases": [
            one
            for one in (
                f"Named in captions and keywords: {wording.named(card)}.",
                f"{wording.associated(card)}.",
                wording.hit(card),
            )
            if one
        ],
        "rai:dataLimitations": list(card["limits"]),
        "rai:personalSensitiveInformation": personal(card),
        "rai:dataUseCases": [
            about.use_cases
            or f"Decided for: {', '.join(card['purpose']['uses'])}; other uses were not asked."
        ],
        "rai:dataSocialImpact": about.social_impact or wording.UNSTATED,
        "rai:dataReleaseMaintenancePlan": about.maintenance
        or "Versions are never changed; a revocation or a correction makes a new version.",
    }


def personal(card: Card) -> list[str]:
    found: Mapping[str, int | None] = wording.values(card, "safety.personal")
    people: Sequence[Mapping[str, Any]] = wording.values(card, "people.releases")
    minors: Sequence[Mapping[str, Any]] = wording.values(card, "people.minors")
    return [
        f"People in pictures by release: {wording.listed(people, 'people', 'release')}.",
        f"Minors: {wording.listed(minors, 'minors')}.",
        "Captions with personal data by form: "
        + ", ".join(f"{kind} {wording.number(count)}" for kind, count in found.items())
        + ".",
    ]
