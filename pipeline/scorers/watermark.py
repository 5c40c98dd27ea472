"""Text over a picture, by PP-OCRv4 in rapidocr: how much of it, how often the same, and whose.

The surprising rule: text alone is no watermark. A shop's sign is read once; a watermark is read again and
again across the picture, or names an agency. A rule therefore asks for repeats or for names, and the share of
text is there for catalogs that want none.

With repeats over 2 or a name, none of 372 photographs of clothes fires, 74 of which have text on them. White
marks on 20 of them, of an opacity of 128 of 255, are found on all where they are tiled and on 14 where they
stand once; of 70 on 19 and 10, of 40 on about half and 7.

Legend: B pictures, H and W pixels.
"""

from __future__ import annotations

import collections
import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scorers.installed import Weights

WEIGHTS = Weights(
    package="rapidocr-onnxruntime",
    files={
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": (
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
        ),
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": (
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
        ),
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": (
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
        ),
    },
    modules=("rapidocr_onnxruntime", "onnxruntime", "cv2", "pyclipper", "shapely", "six", "yaml", "tqdm"),
    libraries=(
        *("rapidocr-onnxruntime", "onnxruntime", "opencv-python-headless"),
        *("pillow", "pyclipper", "shapely"),
    ),
    # Its metadata asks for opencv-python beside the headless one, which owns the same files.
    get="pip install --no-deps rapidocr-onnxruntime==1.4.4 && "
    "pip install onnxruntime opencv-python-headless pyclipper shapely six PyYAML tqdm",
)
NAMES = (
    *("shutterstock", "istock", "gettyimages", "dreamstime", "alamy", "depositphotos", "123rf", "adobestock"),
    *("stockphoto", "bigstock", "fotolia", "canstock", "pond5", "vectorstock", "freepik", "watermark"),
)
"""What watermarks say; compared without spaces, and with one letter in six misread."""
MIN_LETTERS = 4
"""Shorter readings repeat by chance: sizes on labels, prices on shelves."""
ALIKE = 0.75
"""Share of letters that two readings of one text have in common."""
MOST_TEXTS = 200
"""Different texts of a picture that are compared, each with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    text: str
    """Folded, letters and digits alone."""
    share: float
    """Of the picture."""


@dataclass(frozen=True, slots=True)
class Watermarks:
    engine: Any

    @classmethod
    def load(cls) -> Watermarks:
        """One thread, as elsewhere."""
        import rapidocr_onnxruntime  # noqa: PLC0415  # no extra has it

        det, cls_, rec = (str(path) for path in WEIGHTS.paths())
        engine = rapidocr_onnxruntime.RapidOCR(
            det_model_path=det,
            cls_model_path=cls_,
            rec_model_path=rec,
            intra_op_num_threads=1,
            inter_op_num_threads=1,
        )
        for name in ("RapidOCR", "OrtInferSession"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return cls(engine)

    def seen(
        self, pictures: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """[H, W, 3] each, to share of text, repeats of the commonest reading, and readings of names: [B]."""
        read = [self.readings(picture) for picture in pictures]
        shares = [min(sum(one.share for one in found), 1.0) for found in read]
        repeats = [most_repeated([one.text for one in found]) for found in read]
        marks = [sum(names_agency(one.text) for one in found) for found in read]
        return np.array(shares, np.float32), np.array(repeats, np.int32), np.array(marks, np.int32)

    def readings(self, picture_HWC: NDArray[np.uint8]) -> list[Reading]:
        height, width, _ = picture_HWC.shape
        found, _ = self.engine(np.ascontiguousarray(picture_HWC[..., ::-1]))
        return [
            Reading(text=folded(text), share=area(corners) / (width * height))
            for corners, text, _sure in found or ()
        ]


def area(corners: Sequence[Sequence[float]]) -> float:
    """Of a polygon, by the shoelace formula.

    >>> area([(0, 0), (4, 0), (4, 2), (0, 2)])
    8.0
    """
    x, y = np.array(corners, np.float64).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def folded(text: str) -> str:
    """Letters and digits alone.

    >>> folded("Stock Photo©")
    'stockphoto'
    """
    return re.sub(r"[\W_]+", "", text.casefold())


def most_repeated(texts: Sequence[str]) -> int:
    """How many readings are of the commonest text; a reading that holds it twice counts twice.

    Of a page with more different texts than :data:`MOST_TEXTS` the most read are compared, and of those read
    as often the first.

    >>> most_repeated(["stockphoto", "st0ckphoto", "exit", "stockphotostockphot"])
    4
    """
    read = collections.Counter(text for text in texts if len(text) >= MIN_LETTERS).most_common(MOST_TEXTS)
    return max((sum(num * times(word, text) for text, num in read) for word, _ in read), default=0)


def times(word: str, text: str) -> int:
    """How often ``text`` says ``word``, give or take misread letters."""
    count = max(round(len(text) / len(word)), 1)
    pair = difflib.SequenceMatcher(None, word * count, text, autojunk=False)
    # The first two are bounds from above that cost little: most pairs have few letters in common.
    alike = all(bound() >= ALIKE for bound in (pair.real_quick_ratio, pair.quick_ratio, pair.ratio))
    return count if alike else 0


def names_agency(text: str) -> bool:
    """Whether a reading holds a name, with one letter in six misread.

    >>> names_agency("wwwshutterst0ckcom"), names_agency("stockholm")
    (True, False)
    """
    return any(
        sum(a != b for a, b in zip(name, text[at:], strict=False)) <= len(name) // 6
        for name in NAMES
        for at in range(len(text) - len(name) + 1)
    )
