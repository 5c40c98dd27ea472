"""What the demo's model does: measured on what was held out, drawn for fixed prompts with the first seed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from pipeline import embed, packs, refs, schema, tables
from pipeline.captions import digest
from pipeline.deliveries import emoji
from pipeline.reviewing.thumbnails import png
from pipeline.searching.library import Found
from pipeline.split import TRAIN, VALIDATION
from pipeline.tokenizer.tokenizing import pinned
from pipeline.tokens import CURVES
from retrieval import recall
from tokenizer_service import coding, images, metrics, sizes
from trainer import stream, training
from trainer.checkpoint import Checkpoints, read_state
from trainer.config import TrainerConfig
from trainer.sampling import NEIGHBORS
from trainer.studio import Pixels, Studio, open_studio

REVISION = 5
PROMPTS = {
    "red apple": ("1f34e",),
    "red heart": ("2764-fe0f",),
    "cat face": ("1f431",),
    "slice of pizza": ("1f355",),
    "yellow star": ("2b50",),
    "blue car": ("1f699",),
    "green tree": ("1f332", "1f333"),
    "birthday cake": ("1f382",),
}
"""The demo's prompts, and the assets that each names: they and their duplicates are never its neighbors."""
SEED = 0
NUM_CAPTIONS = 12
NUM_RECONSTRUCTIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The validation split: uids, pictures [N, side, side, 3], and where they are opaque [N, side, side].

    In the order of their hashes, so that the first dozen shows all kinds and was chosen by nobody.
    """

    uids: tuple[str, ...]
    pictures: Pixels
    opaque: NDArray[np.bool_]


def make(corpus: Corpus, version: Version, recipe: TrainerConfig, run: Path) -> dict[str, Any]:
    """Everything that the page shows, as JSON."""
    studio = open_studio(corpus, version, run)
    held_out = validation_pictures(studio)
    curves = json.loads(pinned(corpus, version, "vq", CURVES))
    return {
        "model": model(studio),
        "tokenizer": tokenizer(studio, held_out),
        "retrieval": retrieval(corpus, version, held_out),
        "validation": validation(run),
        "masking": stream.mask_counts(
            packs.listed(corpus, version, TRAIN), masking=recipe.masking, seed=recipe.stream.seed
        ).shares(),
        "samples": samples(studio, recipe),
        "captions": captions(studio, recipe, held_out),
        "reconstructions": reconstructions(studio, held_out),
        "curves": {"tokenizer": curves, "model": training.metrics(run)},
    }


def validation_pictures(studio: Studio) -> HeldOut:
    members = studio.library.members
    found = members.filter(pc.equal(members[schema.SPLIT.name], VALIDATION))[schema.UID.name].to_pylist()
    uids = tuple(sorted(found, key=lambda uid: digest("exhibit", uid)))
    originals = emoji.fetched()
    alpha = [images.decode_alpha(originals[uid.partition(":")[2]].webp) for uid in uids]
    planes = [sizes.fit_square(np.repeat(one[..., None], 3, axis=2), studio.side)[..., 0] for one in alpha]
    return HeldOut(
        uids=uids,
        pictures=np.stack([studio.picture(uid) for uid in uids]),
        opaque=np.stack(planes) > 0,
    )


def model(studio: Studio) -> dict[str, Any]:
    section, lookup = studio.model.section, studio.model.lookup
    return {
        "layers": section.num_layers,
        "width": section.width,
        "parameters": sum(weight.numel() for weight in studio.model.parameters()),
        "lookup_rows": section.lookup_rows,
        "lookup_parameters": sum(weight.numel() for weight in lookup.parameters()) if lookup else 0,
    }


def redrawn(studio: Studio, pictures: Pixels) -> Pixels:
    """Through the tokenizer and back."""
    return coding.decode_codes(studio.vq, coding.encode_images(studio.vq, pictures))


def tokenizer(studio: Studio, held_out: HeldOut) -> dict[str, Any]:
    seen = redrawn(studio, held_out.pictures)
    codes = np.concatenate([tokens.codes for tokens in studio.tokens.values()])
    use = metrics.codebook_use(codes, studio.model.live.num_codes)
    return {
        "held_out_images": len(held_out.uids),
        "side": studio.side,
        "image_tokens": studio.num_codes,
        "psnr_mean_db": float(metrics.psnr_each(held_out.pictures, seen).mean()),
        "psnr_pooled_db": metrics.pooled_psnr(held_out.pictures, seen),
        "psnr_opaque_db": metrics.pooled_psnr(held_out.pictures, seen, mask_BHW=held_out.opaque),
        "ssim": float(metrics.ssim_each(held_out.pictures, seen).mean()),
        "codes_used": use.used,
        "codebook_perplexity": use.perplexity,
    }


def retrieval(corpus: Corpus, version: Version, held_out: HeldOut) -> dict[str, Any]:
    """Text to image among held-out pairs only, against chance."""
    embedded = corpus.artifact(version, "embed").shards.values()
    table = pa.concat_tables(
        [tables.read_ipc(refs.of(corpus.store, shard, embed.EMBEDDINGS)) for shard in embedded]
    )
    mask = pc.is_in(table[schema.UID.name], pa.array(held_out.uids))
    pictures, texts = embed.vectors(table.filter(mask))
    found = recall.paired(texts, pictures)
    return {
        "pairs": found.num_pairs,
        "recall_at_1": found.recall_at[1],
        "recall_at_10": found.recall_at[10],
        "chance_at_10": found.chance_at(10),
        "median_rank": found.median_rank,
    }


def validation(run: Path) -> dict[str, Any]:
    """Losses on held-out targets by modality and place: of the best step, and of the last, which draws."""
    checkpoints = Checkpoints(folder=run)
    best, last = (read_state(one).step for one in (checkpoints.best(), checkpoints.latest()) if one)
    lines = {line["step"]: line for line in training.metrics(run)}
    streams = ("alone/", "neighbors/")
    found = {name: value for name, value in lines[best].items() if name.startswith(streams)}
    at_last = {f"last/{name}": value for name, value in lines[last].items() if name.startswith(streams)}
    return {"best_step": best, "last_step": last, **found, **at_last}


def samples(studio: Studio, recipe: TrainerConfig) -> list[dict[str, Any]]:
    named = [[f"{emoji.PROVIDER}:{stem}" for stem in stems] for stems in PROMPTS.values()]
    known = ([studio.fact(uid, schema.GROUP) for uid in uids] for uids in named)
    groups = [[group for group in found if group is not None] for found in known]
    found = [
        studio.neighbors(prompt, NEIGHBORS, without=without)
        for prompt, without in zip(PROMPTS, groups, strict=True)
    ]
    prompts, nothing = list(PROMPTS), [()] * len(PROMPTS)
    augmented = studio.draw(prompts, found, recipe.sampler, seed=SEED)
    alone = studio.draw(prompts, nothing, recipe.sampler, seed=SEED)
    return [
        {
            "prompt": prompt,
            "named": uids,
            "trained_on": [uid for uid in uids if trained_on(studio, uid)],
            "image": png(augmented[i][0]),
            "alone": png(alone[i][0]),
            "copy": png(studio.picture(found[i][0].uid)),
            "neighbors": [shown(studio, one) for one in found[i]],
        }
        for i, (prompt, uids) in enumerate(zip(prompts, named, strict=True))
    ]


def trained_on(studio: Studio, uid: str) -> bool:
    return bool(studio.fact(uid, schema.SPLIT) == TRAIN)


def shown(studio: Studio, found: Found) -> dict[str, Any]:
    return {**asdict(found), "image": png(studio.picture(found.uid))}


def captions(studio: Studio, recipe: TrainerConfig, held_out: HeldOut) -> list[dict[str, Any]]:
    pictures = held_out.pictures[:NUM_CAPTIONS]
    written = studio.caption(list(pictures), [()] * len(pictures), recipe.sampler, seed=SEED)
    return [
        {
            "uid": uid,
            "licensed": studio.fact(uid, schema.DESCRIPTION),
            "written": text,
            "image": png(picture),
        }
        for uid, text, picture in zip(held_out.uids, written, pictures, strict=False)
    ]


def reconstructions(studio: Studio, held_out: HeldOut) -> list[dict[str, str]]:
    true = held_out.pictures[:NUM_RECONSTRUCTIONS]
    return [{"true": png(a), "seen": png(b)} for a, b in zip(true, redrawn(studio, true), strict=True)]
