"""Every column, declared once: name, Arrow type, meaning. Read this file first.

The meaning travels in the field's metadata, so any Parquet viewer shows it next to the data. Code names a
column by its constant, never by a string.
"""

from __future__ import annotations

import pyarrow as pa


def column(name: str, kind: pa.DataType, meaning: str, *, optional: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=optional, metadata={"meaning": meaning})


# Identity: every row of every table carries these two.
UID = column("uid", pa.string(), "provider:asset_id")
REVISION = column("revision", pa.int32(), "revision of the asset record, as delivered")

# What a delivered tar said, before anything was decided.
RECORD = column("record", pa.string(), "the asset record, JSON; null where it is none", optional=True)
FAULT = column("fault", pa.string(), "OUTCOME:CODE: message, where the sample is wrong", optional=True)
EXTRACTED = column(
    "extracted", pa.string(), "what the image file says of its use, JSON; null: nothing", optional=True
)
RECORDS = pa.schema([UID, RECORD, FAULT, EXTRACTED])

# The catalog: what was delivered.
KEY = column("key", pa.string(), "member name in tars: provider_assetid")
SHA256 = column("sha256", pa.string(), "of the delivered image bytes, hex")
BYTES = column("bytes", pa.int64(), "size of the delivered image")
WIDTH = column("width", pa.int32(), "pixels, as delivered; upright where the image was decoded")
HEIGHT = column("height", pa.int32(), "pixels, as delivered; upright where the image was decoded")
DESCRIPTION = column("description", pa.string(), "the caption, as licensed, NFC")
KEYWORDS = column("keywords", pa.list_(pa.string()), "as licensed, NFC")
CATEGORIES = column("categories", pa.list_(pa.string()), "names, as licensed, NFC")
CONTRIBUTOR = column("contributor", pa.string(), "opaque id of who is paid")
IMAGE_TYPE = column("image_type", pa.string(), "photo, illustration, vector, render_3d or unknown")
AI_GENERATED = column("ai_generated", pa.string(), "no, yes, partial or unknown, as delivered")
PEOPLE = column("people", pa.string(), "whether real people are recognisable: yes, no or unknown")
RELEASE = column("release", pa.string(), "PLUS code of the model release, in words, or unknown")
MODERATION = column(
    "moderation",
    pa.list_(pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("score", pa.float32())])),
    "the agency's moderation labels; a score is null where none was sent",
)

# Rights, as decided.
LICENSES = column("licenses", pa.list_(pa.string()), "licence records that admit the use")
ATTRIBUTION = column("attribution", pa.string(), "credit to show with the asset; empty if none is owed")
MAY_BE_NEIGHBOR = column("may_be_neighbor", pa.bool_(), "the licences grant retrieval_index")
MAY_BE_SHOWN = column("may_be_shown", pa.bool_(), "the licences grant retrieval_display")
MAY_DERIVE = column("may_derive", pa.bool_(), "the licences grant derived_captions")

# What became of the row.
OUTCOME = column("outcome", pa.string(), "kept, rejected, quarantined or failed")
SETTLED_BY = column("settled_by", pa.string(), "step that took the row out; empty while it is kept")
REASONS = column("reasons", pa.list_(pa.string()), "why, most important first: CODE or CODE: detail")

# What ingestion saw in the pixels.
PIXEL_STD = column(
    "pixel_std",
    pa.float32(),
    "standard deviation of the picture at 64 px, of the channel that varies most",
    optional=True,
)
SHARPNESS = column(
    "sharpness", pa.float32(), "variance of the Laplacian of the green channel at 256 px", optional=True
)

# What is compared of pictures, and told of them: of what the filters kept, null for other rows.
PHASH = column(
    "phash", pa.uint64(), "perceptual hash: signs of the lowest frequencies of the luma", optional=True
)
PHASH_MIRRORED = column(
    "phash_mirrored", pa.uint64(), "the perceptual hash of the picture mirrored left to right", optional=True
)
STRUCTURE = column(
    "structure",
    pa.binary(),
    "int8 [16, 16, 3]: strength of the edges in a cell, and their direction",
    optional=True,
)
TINT = column("tint", pa.binary(), "uint8 [16, 16, 3]: mean RGB of a cell", optional=True)
COLOR = column("color", pa.string(), "word for the dominant colour; null if none dominates", optional=True)

# What models see in the pixels and the caption: null where that scorer is off, or the row was out before.
NSFW = column("nsfw", pa.float32(), "probability of pornography, by open_nsfw", optional=True)
TEXT_SHARE = column(
    "text_share", pa.float32(), "share of the picture that text covers, by OCR", optional=True
)
TEXT_REPEATS = column(
    "text_repeats", pa.int32(), "how often the commonest reading stands in the picture", optional=True
)
STOCK_MARKS = column(
    "stock_marks", pa.int32(), "readings that name an agency or a sample, as watermarks do", optional=True
)
FACES = column("faces", pa.int32(), "faces that are seen", optional=True)
FACE_SHARE = column("face_share", pa.float32(), "share of the picture of the largest face", optional=True)
ALIGNMENT = column("alignment", pa.float32(), "cosine of picture and caption, by the encoder", optional=True)
AESTHETIC = column("aesthetic", pa.float32(), "by a linear head on the encoder's features", optional=True)

# Duplicates and splits.
GROUP = column("group", pa.string(), "uid of the first-seen member of the duplicate group", optional=True)
SPLIT = column("split", pa.string(), "train or validation", optional=True)
KEEPER = column("keeper", pa.string(), "uid of the member of the group that stays")
FOUND_BY = column("found_by", pa.string(), "exact_duplicate, near_duplicate or semantic_duplicate")
HAMMING = column("hamming", pa.uint8(), "bits in which the perceptual hashes of row and keeper differ")
COSINE = column(
    "cosine", pa.float32(), "of the features of row and keeper; null where none were compared", optional=True
)
ALSO_LIKE = column("also_like", pa.list_(pa.string()), "groups that it is linked to too, and that stay apart")
LINKS = pa.schema([UID, REVISION, GROUP, KEEPER, FOUND_BY, HAMMING, COSINE, ALSO_LIKE])

RIGHTS = (LICENSES, ATTRIBUTION, MAY_BE_NEIGHBOR, MAY_BE_SHOWN, MAY_DERIVE)
SETTLED = (OUTCOME, SETTLED_BY, REASONS)
DELIVERED = (
    *(UID, REVISION, KEY, SHA256, BYTES, DESCRIPTION, KEYWORDS, CATEGORIES, CONTRIBUTOR),
    *(WIDTH, HEIGHT, IMAGE_TYPE, AI_GENERATED, PEOPLE, RELEASE, MODERATION),
)
DECIDED = pa.schema([*DELIVERED, *RIGHTS, *SETTLED])
SEEN = (PIXEL_STD, SHARPNESS)
LOOKS = (PHASH, PHASH_MIRRORED, STRUCTURE, TINT, COLOR)
INGESTED = pa.schema([*DECIDED, *SEEN])
MEASURED = (NSFW, TEXT_SHARE, TEXT_REPEATS, STOCK_MARKS, FACES, FACE_SHARE, ALIGNMENT, AESTHETIC)
SCORES = pa.schema([UID, REVISION, *MEASURED])

# In memory only, between the stages of one step.
IMAGE = column("image", pa.binary(), "encoded image", optional=True)
VERDICT = column("verdict", pa.string(), "OUTCOME:CODE: detail; null where the row is kept", optional=True)

# Features and embeddings.
IMAGE_FEATURES = column("image_features", pa.list_(pa.float32()), "raw output of the image encoder")
TEXT_FEATURES = column("text_features", pa.list_(pa.float32()), "raw output of the text encoder")
IMAGE_VECTOR = column("image_vector", pa.list_(pa.float16()), "unit length")
TEXT_VECTOR = column("text_vector", pa.list_(pa.float16()), "unit length")
FEATURES = pa.schema([UID, REVISION, IMAGE_FEATURES, TEXT_FEATURES, *LOOKS])
EMBEDDINGS = pa.schema([UID, REVISION, IMAGE_VECTOR, TEXT_VECTOR])

# Tokens.
CODES, WIDE_CODES = (
    column("codes", pa.list_(kind), "codebook indices, raster order; offsets are added when packing")
    for kind in (pa.uint16(), pa.uint32())
)
TEXT = pa.struct(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("ids", pa.list_(pa.uint16()), nullable=False),
    ]
)
TEXTS = column("texts", pa.list_(TEXT), "forms of the caption as BPE entries; the plain one is first")
SHARED = pa.dictionary(pa.int8(), pa.string())
"""A text that all rows of a shard have, at a byte a row."""
TEXT_TOKENIZER = column("text_tokenizer", SHARED, "sha256 of the BPE that made the entries")
IMAGE_TOKENIZER = column("image_tokenizer", SHARED, "sha256 of the image tokenizer that made the codes")
XXH3 = column("xxh3", pa.uint64(), "of the rest of the row, for who reads some rows alone")
TOKENS = pa.schema(
    [UID, REVISION, LICENSES, CONTRIBUTOR, CODES, TEXTS, TEXT_TOKENIZER, IMAGE_TOKENIZER, XXH3]
)

# The index's members, beside its vectors.
ID = column("id", pa.int64(), "row of the append-only id table; never reused")
SLOT = column("slot", pa.string(), "of the shards that hold the asset")
GROUP_NUMBER, CONTRIBUTOR_NUMBER = (
    column(name, pa.int64(), "64 bits of a hash of the name, to be compared")
    for name in ("group_number", "contributor_number")
)
MEMBERS = pa.schema(
    [ID, UID, REVISION, SLOT, GROUP_NUMBER, SPLIT, CONTRIBUTOR_NUMBER, MAY_BE_NEIGHBOR, MAY_BE_SHOWN]
)
IDS = pa.schema([UID, ID])
REASON = column("reason", pa.string(), "as told by whoever took the asset out of the index")
AT = column("at", pa.string(), "when, UTC")
WITHDRAWN = pa.schema([UID, REASON, AT])

# The reference form of retrieval-augmented examples.
CANDIDATE = pa.struct(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("slot", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("via", pa.string(), nullable=False),
    ]
)
CANDIDATES = column(
    "candidates", pa.list_(CANDIDATE), "admissible neighbors, best first, by image and by text"
)
NEIGHBORS = pa.schema([UID, REVISION, SPLIT, CANDIDATES])

# What each contributor has in a shard of packs; a name has its provider before a colon.
PAIRS = column("pairs", pa.int64(), "of a text and an image, as target or as neighbor")
NUM_TOKENS = column("tokens", pa.int64(), "of these")
HOLDINGS = pa.schema([CONTRIBUTOR, PAIRS, NUM_TOKENS])
