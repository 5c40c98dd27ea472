"""What the service answers: codes as JSON or as raw numbers, images as PNG or in JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.serving.bodies import JSON, accepts
from infra.serving.refusal import Refusal
from tokenizer_service.serving.bodies import RAW
from tokenizer_service.serving.looking import Unfit
from tokenizer_service.serving.model import Coded, Drawn, Facts

PNG = "image/png"
UNFIT = {
    "format": (415, "no image", "send a JPEG, PNG or WebP file"),
    "broken": (422, "a broken image", "send a whole file"),
    "pixels": (422, "too many pixels", "make the image smaller"),
    "small": (422, "too few pixels", "send a larger image"),
    "died": (422, "an image that cannot be decoded safely", "save it anew with another program"),
}
"""Status, error and fix by kind."""


def codes(request: Request, found: Sequence[Coded], facts: Facts, *, alone: bool) -> Response:
    codes_BT = np.stack([one.codes_T for one in found])
    if accepts(request, RAW):
        told = {f"X-{name.replace('_', '-').title()}": str(value) for name, value in asdict(facts).items()}
        headers = {"X-Images": str(len(found)), "X-Dtype": facts.dtype.name, **told}
        return Response(codes_BT.astype(facts.dtype).tobytes(), media_type=RAW, headers=headers)
    rows = codes_BT.tolist()
    return JSONResponse({"codes": rows[0] if alone else rows, **asdict(facts)})


def images(request: Request, found: Sequence[Drawn], *, alone: bool) -> Response:
    if alone and not accepts(request, JSON):
        return Response(found[0].png, media_type=PNG)
    return JSONResponse({"images": [base64.b64encode(one.png).decode() for one in found]})


def unfit(found: Unfit, *, alone: bool) -> Refusal:
    status, error, fix = UNFIT[found.kind]
    return Refusal(status, error if alone else f"images[{found.place}]: {error}", value=found.why, fix=fix)
