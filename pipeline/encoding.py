"""Stored images to codes: on a GPU, decoded by threads of the worker while its model is at an earlier batch.

The surprising rule: neither threads nor their number decide anything. Batches are consecutive rows of one
shard, in their order, and the last is padded, so a shard has the same codes wherever it is made. All images
of a corpus are fitted to one square: there is one shape of grid, and batches need no buckets by shape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.step import OutOfMemory
from tokenizer_service import coding, images, squares
from tokenizer_service.coding import Numerics
from tokenizer_service.vq import VQ, Preprocessing

Pixels = NDArray[np.uint8]
Square = Callable[[bytes], Pixels]

AHEAD = 2
"""Batches that are decoded or being decoded while the model is at one: 12 MB of 32 images at 256 px."""
GPU_THREADS = 4
"""Of a worker on a GPU: a core decodes some 500 images a second to 256 px."""


def square(image: bytes, side: int, preprocessing: Preprocessing) -> Pixels:
    """A stored image as [side, side, 3], as the tokenizer was trained to see it."""
    return squares.square(images.decode(image), side, preprocessing)


def decoded(stored: Sequence[bytes], square: Square, *, batch_images: int, threads: int) -> Iterator[Pixels]:
    """Batches [B, side, side, 3] in order; a few are under way beyond the one that is asked for.

    One thread is the caller's own: on a single core, a second one beside the model cost 10 %.
    """
    batches = (stored[start : start + batch_images] for start in range(0, len(stored), batch_images))
    if threads == 1:
        yield from (np.stack([square(image) for image in batch]) for batch in batches)
        return
    waiting: deque[list[Future[Pixels]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            waiting.append([pool.submit(square, image) for image in batch])
            if len(waiting) > AHEAD:
                yield stacked(waiting.popleft())
        while waiting:
            yield stacked(waiting.popleft())


def stacked(batch: Sequence[Future[Pixels]]) -> Pixels:
    return np.stack([image.result() for image in batch])


def codes(
    stored: Sequence[bytes], *, model: VQ, side: int, numerics: Numerics, threads: int
) -> NDArray[np.integer]:
    """Codes [B, T] in raster order; raises ``OutOfMemory`` where a batch does not fit the device."""
    shaped = partial(square, side=side, preprocessing=model.config.preprocessing)
    batches = decoded(stored, shaped, batch_images=numerics.batch_images, threads=threads)
    none = np.zeros((0, side, side, 3), np.uint8)
    try:
        found = [coding.encode_images(model, batch, numerics=numerics) for batch in batches]
        return np.concatenate(found or [coding.encode_images(model, none, numerics=numerics)])
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"{numerics.batch_images} images of {side} px a batch do not fit the device: "
            f"{str(error).partition('.')[0]}; lower tokenizer.encode.batch_images, let nothing else run on "
            "the device, or lower tokenizer.image.side"
        ) from error
