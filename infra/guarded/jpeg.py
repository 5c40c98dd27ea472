"""Walk the segments of a JPEG before its pixels (ITU-T T.81, annex B), as tolerantly as decoders do."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_NO_MORE = (0xD9, 0xDA)
"""End of the image, and start of a scan."""


def segments(image: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where its body begins, where it says that it ends: perhaps behind the end of the file)."""
    place = 2
    while (found := _MARKER.search(image, place)) and found[0][1] not in _NO_MORE:
        start = found.end()
        place = start + max(int.from_bytes(image[start : start + 2], "big"), 2)
        yield found[0][1], start + 2, place
