"""A delivered picture to small pixels, in a process that may die of it.

The surprising rule: pixels are all that comes out of that process, and no file. Whoever takes it over can
draw other pictures, and no more: the JPEGs of the corpus are encoded, and their notices written, outside it,
so that nothing a delivery brought is decoded a second time, unless ``reencode = "needed"`` says so. This
module is what the process imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.guarded.isolated import Answer, Died, Isolated, Limits
from tokenizer_service import images, jpegs, orientation, sizes

MEMORY_BYTES = 960 << 20
"""Address space of a picture, so that the process stays under 1 GiB with the 30 MB that it starts with. The
largest admitted PNG, 120 MP with transparency, takes 827 MiB, a progressive JPEG of as many in CMYK 924."""
CPU_S = 30
"""The largest take 7 s; a JPEG of 200 KB that brings one scan a thousand times takes 37."""
WALL_S = 300
"""Ten times as much, since the CPU may be shared."""
MAX_CHARS = 500
"""Of why a picture cannot be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    pixels_HWC: NDArray[np.uint8]
    """At most the training size, upright, in sRGB."""
    width: int
    """Pixels as delivered, upright."""
    height: int
    is_plain: bool
    """The file is a JPEG that shows these very pixels, and libjpeg has nothing to say against it."""


def decoder(max_side: int) -> Isolated:
    area = min(max_side**2, images.MAX_PIXELS)
    limits = Limits(memory_bytes=MEMORY_BYTES, cpu_s=CPU_S, wall_s=WALL_S, answer_bytes=3 * area)
    return Isolated(function=f"{__name__}:look", settings={"max_side": max_side}, limits=limits)


def seen(image: bytes, decoder: Isolated) -> Picture:
    """Raises :class:`images.Undecodable`, and :class:`Died` where the decoder did or answers nonsense."""
    return picture(decoder.call(image), decoder.settings["max_side"])


def look(image: bytes, settings: Mapping[str, Any]) -> Answer:
    """What :func:`picture` reads, made in the process."""
    try:
        header, most = images.probe(image), settings["max_side"]
        quick = jpegs.small(image, most) if header.format == "JPEG" else None
        if quick is None:
            stored = images.load(image, at_least=most)
            del image  # up to 96 MiB, and the pixels take 800
            turn, is_plain, pixels_HWC = images.turn(stored), False, images.pixels(stored)
            rows, columns, _ = pixels_HWC.shape
            pixels_HWC = sizes.shrink(pixels_HWC, sizes.shrunk(columns, rows, most))
        else:
            turn, is_plain = quick.turn, quick.is_plain
            pixels_HWC = orientation.upright(quick.pixels_HWC, turn)
    except images.Undecodable as error:
        return {"undecodable": str(error)}, []
    delivered = [header.width, header.height]
    if orientation.lies(turn):
        delivered.reverse()
    rows, columns, _ = pixels_HWC.shape
    told = {"delivered": delivered, "pixels": [columns, rows], "plain": is_plain}
    return told, [pixels_HWC.tobytes()]


def picture(told: Answer, max_side: int) -> Picture:
    """Checked as far as it can be: sizes that are possible, and as many bytes as they take."""
    match told:
        case {"undecodable": str(why)}, []:
            raise images.Undecodable(printable(why)[:MAX_CHARS])
        case {"delivered": [width, height], "pixels": [columns, rows], "plain": bool(plain)}, [raw] if (
            fits(width, height, images.MAX_SIDE)
            and fits(columns, rows, max_side)
            and len(raw) == 3 * columns * rows
        ):
            pixels_HWC = np.frombuffer(raw, np.uint8).reshape(rows, columns, 3)
            return Picture(pixels_HWC=pixels_HWC, width=width, height=height, is_plain=plain)
    raise Died("no answer in form")


def fits(width: Any, height: Any, side: int) -> bool:
    return all(type(value) is int and 0 < value <= side for value in (width, height))


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
