"""A record as tokens: the prompt that asks for what it lacks, and the document that it is trained on.

The surprising rule: the words of a template belong to nobody. They get no span, so they are never cut, never
credited and never taken back; a field's words and every picture have one. Each piece is encoded by itself,
so that a field has the tokens that it has as a caption, and ends where a token ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pipeline.pack import BREAK, EOS
from pipeline.packed import Laid, Modality, Role, Span, Via
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Ids
from trainer import tasks
from trainer.prompts import Hole, coming, infill
from trainer.tasks import Picture, Piece, Record, Segment

Encode = Callable[[Sequence[str]], Sequence[NDArray[np.integer]]]
"""Texts to BPE entries, each by itself."""
Codes = Mapping[str, NDArray[np.integer]]
"""Codebook indices of pictures, by uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Tokens of one piece of a segment."""

    ids: Ids
    field: str | None
    """None: the template's own words."""
    picture: str | None = None
    """Its uid, where the part is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Which asset put tokens there."""

    uid: str
    revision: int


def parts(segments: Sequence[Segment], encode: Encode, codes: Codes) -> list[list[Part]]:
    """Tokens of each segment, piece by piece. A picture has the codes that ``codes`` has for it."""
    pieces = [piece for one in segments if not isinstance(one, Picture) for piece in one]
    entries = iter(encode([piece.text.strip(" ") for piece in pieces]))
    return [
        [_shown(one, codes)] if isinstance(one, Picture) else [_told(piece, next(entries)) for piece in one]
        for one in segments
    ]


def _shown(picture: Picture, codes: Codes) -> Part:
    return Part(ids=vocabulary.from_codes(codes[picture.uid]), field="", picture=picture.uid)


def _told(piece: Piece, entries: NDArray[np.integer]) -> Part:
    return Part(ids=vocabulary.from_text(entries), field=piece.field)


def asking(record: Record, encode: Encode, codes: Codes) -> tuple[int, ...]:
    """The prompt behind which the target comes: a picture, or words up to ``<eoss>``.

    The target itself is looked at only for where it stands; a text that is asked for may be any.
    """
    segments = tasks.prompt(record)
    if record.TARGET in tasks.PICTURES:
        given = parts(segments[:-1], encode, codes)
        return coming([_joined(one) for one in given])
    found = parts(segments, encode, codes)
    number, (start, stop) = next(
        (number, (bounds[at], bounds[at + 1]))
        for number, one in enumerate(found)
        for bounds in [_bounds(one)]
        for at, part in enumerate(one)
        if part.field == record.TARGET
    )
    return infill([_joined(one) for one in found], Hole(segment=number, start=start, stop=stop))


def _joined(segment: Sequence[Part]) -> tuple[int, ...]:
    return tuple(int(token) for part in segment for token in part.ids)


def _bounds(segment: Sequence[Part]) -> list[int]:
    return list(accumulate((len(part.ids) for part in segment), initial=0))


def laid(
    example_id: str, record: Record, found: Sequence[Sequence[Part]], credit: Callable[[Part], Credit]
) -> Laid:
    """``<eos> S1 <break> ... Sn <eos>`` with a span for each field and picture; ``credit`` says whose it is.

    No span is a neighbor's: what is taken back takes its whole document along, since the rest of an example
    says little without it, and might say it.
    """
    ids: list[Ids] = []
    spans: list[Span] = []
    at = 1
    for segment in found:
        for part in segment:
            if part.field is not None and len(part.ids):
                spans.append(_span(part, at, _role(part, record), credit(part)))
            at += len(part.ids)
        ids += [*(part.ids for part in segment), BREAK]
        at += 1
    return Laid(example_id=example_id, ids=np.concatenate((EOS, *ids[:-1], EOS)), spans=tuple(spans))


def _role(part: Part, record: Record) -> Role:
    asked = getattr(record, record.TARGET)
    is_asked = part.picture == asked.uid if isinstance(asked, Picture) else part.field == record.TARGET
    return Role.TARGET if is_asked else Role.GIVEN


def _span(part: Part, start: int, role: Role, credit: Credit) -> Span:
    return Span(
        start=start,
        length=len(part.ids),
        modality=Modality.TEXT if part.picture is None else Modality.IMAGE,
        role=role,
        uid=credit.uid,
        revision=credit.revision,
        via=Via.NOTHING,
    )
