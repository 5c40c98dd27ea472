"""A draft of the public summary of training content that Art. 53(1)(d) of Regulation (EU) 2024/1689 asks for.

The sections follow the Commission's template (C(2025) 8311); of section 1 only what the corpus knows is
filled in. It is a draft: who publishes a model reads it, completes it and answers for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.card import wording
from pipeline.card.settings import About
from pipeline.card.wording import UNSTATED, Card

IMAGES = ((1_000_000, "less than 1 million images"), (1_000_000_000, "1 million to 1 billion images"))
TOKENS = (
    (1_000_000_000, "less than 1 billion tokens"),
    (10_000_000_000_000, "1 billion to 10 trillion tokens"),
)
OPEN = "(to be completed)"


def size(count: int, ranges: Sequence[tuple[int, str]], more: str) -> str:
    """The template's range.

    >>> size(5, IMAGES, "more than 1 billion images")
    'less than 1 million images'
    """
    return next((told for bound, told in ranges if count < bound), more)


def document(card: Card, about: About) -> str:
    return "\n".join((*general(card, about), *sources(card), *processing(card))) + "\n"


def general(card: Card, about: About) -> Iterator[str]:
    tokens = wording.values(card, "contributors.tokens")
    count = tokens["tokens"] if tokens else None
    texts = f"{size(count, TOKENS, 'more than 10 trillion tokens')}" if count is not None else OPEN
    yield "# Draft: public summary of training content, data sources"
    yield ""
    yield (
        "Template of the AI Office under Article 53(1)(d) of Regulation (EU) 2024/1689. Drawn from version "
        f"{card['version']} of the corpus, rights as of {card['as_of']}. To be completed by the provider."
    )
    yield ""
    yield "## 1. General information"
    yield ""
    yield f"- 1.1 Provider: {about.issuer or OPEN}. Contact: {about.contact or OPEN}."
    yield f"- 1.2 Model: {card['purpose']['model']} {OPEN}"
    yield "- 1.3 Modalities: image, text."
    kept = wording.kept(card)
    yield f"  - Image: {size(kept, IMAGES, 'more than 1 billion images')} ({kept:,})."
    yield f"  - Text, with image tokens, in the training packs: {texts}."
    languages = wording.listed(wording.values(card, "representation.texts"), "language", "origin", most=10)
    yield f"  - Languages and origin of captions: {languages}."
    yield f"- Latest date of acquisition: {latest(card)}."


def latest(card: Card) -> str:
    return max((str(one["created_at"])[:10] for one in card["deliveries"]), default=OPEN)


def sources(card: Card) -> Iterator[str]:
    licenses = wording.values(card, "rights.licenses")
    contracts = [row for row in licenses if row["kind"] == "contract"]
    public = [row for row in licenses if row["kind"] != "contract"]
    yield ""
    yield "## 2. List of data sources"
    yield ""
    yield "### 2.1 Publicly available datasets"
    yield ""
    yield f"Used: {'yes' if public else 'no'}. Assets under public licences or in the public domain:"
    yield from rows(public)
    yield ""
    yield "### 2.2 Private datasets obtained from third parties"
    yield ""
    yield "#### 2.2.1 Commercially licensed by rightsholders or their representatives"
    yield ""
    yield f"Used: {'yes' if contracts else 'no'}."
    yield from rows(contracts)
    providers = wording.values(card, "rights.providers")
    yield (
        "Deliveries came from: "
        + ("; ".join(f"{row['provider']} ({row['assets']:,} assets)" for row in providers) or UNSTATED)
        + "."
    )
    yield ""
    yield "#### 2.2.2 Obtained from other third parties"
    yield ""
    yield f"Used: {OPEN}"
    yield ""
    yield "### 2.3 Data crawled and scraped from online sources"
    yield ""
    yield "Used: no. The corpus takes deliveries alone, each asset under a licence record."
    yield ""
    yield "### 2.4 User data"
    yield ""
    yield "Used: not by this corpus."
    yield ""
    yield "### 2.5 Synthetic data"
    yield ""
    made = wording.listed(wording.values(card, "people.ai_generated"), "ai_generated")
    yield f"Images made by AI, as the deliveries state it: {made}."
    yield (
        "Captions by origin (model: written by one): "
        + wording.listed(wording.values(card, "representation.primary_text"), "language", "origin", most=10)
        + "."
    )
    yield ""
    yield "### 2.6 Other sources"
    yield ""
    yield "Used: not by this corpus."


def rows(licenses: Sequence[dict[str, object]]) -> Iterator[str]:
    for row in licenses:
        covers = " and ".join(str(one) for one in row["covers"]) if isinstance(row["covers"], list) else ""
        yield (
            f"- {row['license']} ({row['expression']}), covering {covers}: {row['assets']:,} assets, until "
            + str(row["until"])
        )


def processing(card: Card) -> Iterator[str]:
    outcomes = wording.values(card, "rights.outcomes")
    reserved = [row["assets"] for row in outcomes if str(row["code"]).startswith("embedded_")]
    left_out = None if None in reserved else sum(reserved)
    unfit = [row for row in outcomes if row["code"] in ("adult", "minors", "release", "nsfw")]
    yield ""
    yield "## 3. Data processing aspects"
    yield ""
    yield "### 3.1 Respect of reservation of rights"
    yield ""
    yield (
        "Reservations inside image files (IPTC/PLUS data mining, C2PA and CAWG training assertions) are read "
        "from every file; one that contradicts its licence leaves the asset out until a person decides: "
        f"{wording.number(left_out)} assets left out."
    )
    yield ""
    yield "### 3.2 Removal of illegal content"
    yield ""
    told = "; ".join(f"{row['code']}: {wording.number(row['assets'])}" for row in unfit) or "none were found"
    purpose = card["purpose"]
    people = ", people under an unlimited release alone" if "generation" in purpose["uses"] else ""
    yield (
        f"By record and by file: adult content {purpose['adult']}, minors {purpose['minors']}{people}. "
        f"Left out for it: {told}."
    )
    yield "Lists of hashes of illegal content are brought by the operator: " + OPEN
    yield ""
    yield "### 3.3 Other information"
    yield ""
    yield from (f"- {one}" for one in card["limits"])
