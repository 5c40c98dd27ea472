"""The door: deliveries become decided rows, decided rows become training images.

Rights are decided first, from the records alone, and only what is admitted is ever decoded or copied. The
instant ``as_of`` and the revocation register enter here and nowhere else: later steps see decided rows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import archive, colors, duplicates, numerics, outcomes, refs, schema, tables
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task, slot_name
from tokenizer_service import images


class IngestConfig(Section):
    max_side: int = Field(512, ge=32)
    """Longer side of a training image, in pixels; smaller ones are kept as they are."""
    quality: int = Field(95, ge=50, le=100)
    """JPEG quality of training images, without chroma subsampling."""
