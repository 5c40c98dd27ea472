"""Pictures that say how they were made: as text in the PNG, and, signed, as a C2PA manifest.

The surprising rule: both say the same, but only the manifest can be believed, and only as far as the signer
is. The private key is handed to the signing library and to nothing else; it is in no message and in no file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from infra.redaction import masked_tree
from pipeline import c2pa
from pipeline.searching.library import Found
from trainer import doing
from trainer.doing import Show, Shown
from trainer.studio import Drawing, Studio

KEYWORD = "pardalis"
"""Of the PNG's text chunk, which holds JSON."""
MADE = "org.pardalis.made"
"""Label of the assertion that holds the same facts."""
DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CHANGED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's words for what a model drew, and for a picture that it changed."""
CHANGING = frozenset({"edit", "infill"})
"""Tasks whose picture holds parts of the ``image`` that was given; what follows a map holds none of it."""
ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
"""Tried in this order: the key fits the one that its certificate is for."""
SETTINGS: Mapping[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {
        "verify_after_sign": True,
        "verify_trust": False,
        "verify_timestamp_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
    },
}


def version() -> str:
    """Of this package."""
    return importlib.metadata.version("pardalis")


def png(picture_HWC: NDArray[np.uint8], facts: Mapping[str, Any]) -> bytes:
    """The file, with the facts as text; credentials in addresses are masked."""
    told, sink = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text(KEYWORD, json.dumps(masked_tree(dict(facts))))
    Image.fromarray(picture_HWC).save(sink, "PNG", pnginfo=told)
    return sink.getvalue()


def told_of(studio: Studio, task: Shown, found: Sequence[Found], drawing: Drawing) -> dict[str, Any]:
    """How pictures were drawn, as their file says it."""
    return {
        **of_task(task),
        "seed": drawing.seed,
        "settings": drawing.section.model_dump(mode="json"),
        "neighbors": [credit(one) for one in found],
        "model": dict(studio.made_by),
        "version": version(),
    }


def of_task(task: Shown) -> dict[str, Any]:
    """What was asked for, as a picture's file says it; a picture that was given by its hash."""
    files = {
        name: {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in doing.files(task).items()
    }
    name = task.given.name if isinstance(task, Show) else type(task).__name__.lower()
    return {"task": name, "prompt": doing.words_of(task), **files}


def credit(found: Found) -> dict[str, Any]:
    """What a picture says of an asset that it was drawn with. Not its words: files travel."""
    return {name: value for name, value in asdict(found).items() if name != "description"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Files of the one who signs, as PEM."""

    certificate: Path
    """The chain: the signer's own first, then what vouches for it."""
    key: Path

    def check(self) -> None:
        """Refuse what cannot sign before anything is drawn. ``ValueError`` says what is missing."""
        if c2pa.version() is None:
            raise ValueError("--sign needs c2pa-python; run `pip install 'pardalis[c2pa]'`, or leave it out")
        for option, path in (("--sign", self.certificate), ("--key", self.key)):
            if not path.is_file():
                raise ValueError(f"{option} is {path}, and there is no such file")
        self.signed(png(np.zeros((8, 8, 3), np.uint8), {}), {})

    def signed(self, image: bytes, facts: Mapping[str, Any]) -> bytes:
        """The PNG with a manifest: who drew it, by which model, and whom to credit.

        ``ValueError`` where certificate and key cannot sign.
        """
        # Not at the top: this loads 23 MB of native code.
        sdk = importlib.import_module("c2pa")
        refusals = []
        for algorithm in ALGORITHMS:
            try:
                return self._signed(sdk, algorithm, image, manifest(facts))
            except sdk.C2paError as error:
                refusals.append(f"{algorithm}: {error}")
        raise ValueError(
            f"{self.certificate} and its key cannot sign; give a chain with the signer's certificate first, "
            f"and the key that belongs to it, both as PEM ({'; '.join(refusals)})"
        )

    def _signed(self, sdk: Any, algorithm: str, image: bytes, definition: dict[str, Any]) -> bytes:
        chain, key = self.certificate.read_bytes(), self.key.read_bytes()
        sink = io.BytesIO()
        with (
            sdk.Context.from_dict(dict(SETTINGS)) as context,
            sdk.Builder(definition, context=context) as builder,
            sdk.Signer.from_info(sdk.C2paSignerInfo(algorithm.encode(), chain, key, None)) as signer,
        ):
            builder.sign(signer, "image/png", io.BytesIO(image), sink)
        return sink.getvalue()


def manifest(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a manifest (C2PA 2.1): what a model did, with the facts as an assertion.

    A picture that was given is an ingredient by the name of its file, and by its hash in the facts; its bytes
    are not ours to parse here.
    """
    told = masked_tree(dict(facts))
    ingredients = [
        {
            "label": name,  # of use here alone: actions name ingredients by it
            "title": fact["name"],
            "relationship": "parentOf" if name == "image" and told["task"] in CHANGING else "inputTo",
        }
        for name, fact in told.items()
        if isinstance(fact, Mapping) and "sha256" in fact
    ]
    return {
        "claim_generator_info": [{"name": "pardalis", "version": version()}],
        "format": "image/png",
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions(ingredients)}},
            {"label": MADE, "data": told},
        ],
    }


def actions(ingredients: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """What was done: drawn, after the pictures that were given if any; or one of them opened and edited."""
    parents, others = (
        [one["label"] for one in ingredients if one["relationship"] == kind]
        for kind in ("parentOf", "inputTo")
    )
    done = {
        "action": "c2pa.edited" if parents else "c2pa.created",
        "digitalSourceType": CHANGED if parents else DRAWN,
        "softwareAgent": {"name": "pardalis", "version": version()},
        **({"parameters": {"ingredientIds": others}} if others else {}),
    }
    # The first action of a manifest creates or opens, else it is malformed.
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": parents}}
    return [opened, done] if parents else [done]
