"""Tasks that begin with a picture: edits by instruction, and filling in what was cut out.

The surprising rule: a copy of the input is a strong answer to most edits, since most of a picture stays. So
error is measured against the true result, which a copy has only where nothing had to change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.colors import Pixels
from tokenizer_service import vocabulary
from trainer import prompts, tasks
from trainer.evaluation import pictures
from trainer.evaluation.bench import Bench, others, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.evaluation.known import Codes
from trainer.instruct import edits, laying, scenes
from trainer.instruct.build import HeldOut
from trainer.instruct.scenes import Mask
from trainer.prompts import Hole
from trainer.sampler import DRAWN, Request
from trainer.tasks import Captioned, Edited

Drawn = Mapping[str, Sequence[Pixels]]
"""By who drew, in the order of the items."""
INSTRUCTIONS: Mapping[str, Sequence[str]] = {
    "ground": edits.GROUND,
    "color": edits.RECOLOR,
    "mirror": [wording for wordings in edits.MIRROR.values() for wording in wordings],
    "remove": edits.REMOVE,
    "move": edits.MOVE,
    "resize": [*edits.BIGGER, *edits.SMALLER],
    "replace": edits.REPLACE,
    "add": edits.ADD,
}
"""By kind of edit; in the order in which an instruction is tried: what says most of itself first."""
OTHER_SHARE = 4
"""Of kinds that are not the one judged by, a quarter of the items each."""


def kind_of(instruction: str) -> tuple[str, str | None]:
    """Which edit an instruction asks for, and the colour word in it.

    >>> kind_of("make the red apple blue"), kind_of("turn the cat into a dog")
    (('color', 'blue'), ('replace', None))
    """
    for kind, wordings in INSTRUCTIONS.items():
        for wording in wordings:
            found = re.fullmatch(_pattern(wording), instruction)
            if found:
                return kind, found.groupdict().get("color")
    return "other", None


def _pattern(wording: str) -> str:
    pieces = re.split(r"\{(\w+)\}", wording)
    words = "|".join(edits.COLORS)
    return "".join(
        (f"(?P<color>{words})" if piece == "color" else ".+") if number % 2 else re.escape(piece)
        for number, piece in enumerate(pieces)
    )


def edited(bench: Bench) -> Judged:
    items = [
        item
        for kind in INSTRUCTIONS
        for item in bench.items(
            Edited,
            lambda record, kind=kind: kind_of(record.instruction)[0] == kind,
            1 if kind == "color" else OTHER_SHARE,
        )
    ]
    items.sort(key=lambda item: kind_of(item.record.instruction)[0] != "color")
    if not items:
        return nothing("Edits", "no held-out picture has an edit; do its licences grant derived captions?")
    kinds = [kind_of(item.record.instruction) for item in items]
    drawn = redrawn(bench, items, [kind for kind, _ in kinds])
    measures = [m for kind in ("color", *INSTRUCTIONS) for m in of_kind(items, kinds, drawn, kind)]
    unique = {one.name: one for one in measures}
    return Judged(
        title="Edits",
        about=(
            "A picture changed as the instruction says; judged by the PSNR of edits of color against the "
            "true result, in dB. Chance: the result of another held-out edit of that kind. Copy: the input "
            "as it is. Ceiling: the true result behind the tokenizer. Reached: the drawn thing, on its plain "
            "ground, has the color word asked for, or the ground has it."
        ),
        measures=list(unique.values()),
        shown=[shown(bench, item, drawn, i) for i, item in enumerate(items[:SHOWN])],
    )


def redrawn(bench: Bench, items: Sequence[HeldOut], kinds: Sequence[str]) -> Drawn:
    true = [picture_of(item, "after") for item in items]
    chance: list[Pixels] = [*true]
    for kind in sorted(set(kinds)):
        mine = [i for i, one in enumerate(kinds) if one == kind]
        for i, other in zip(mine, others(len(mine), bench.rng("chance", "edit", kind)), strict=True):
            chance[i] = true[mine[other]]
    return {
        MODEL: bench.draw("edit", [edit_request(bench, item) for item in items]),
        CHANCE: bench.through(chance),
        COPY: bench.through([picture_of(item, "before") for item in items]),
        CEILING: bench.through(true),
    }


def edit_request(bench: Bench, item: HeldOut) -> Request:
    """Guidance has two terms, of the picture and of the words (arXiv 2309.02591, section 4.1)."""
    given = bench.given(item)
    segments = tasks.prompt(item.record)[:-1]
    laid = laying.parts(segments, bench.studio.bpe.encode, given)
    ids = [tuple(int(token) for part in segment for token in part.ids) for segment in laid]
    return Request(
        prompt=prompts.coming(ids),
        image_only=prompts.coming([*ids[:-1], prompts.CUT]),
        # Words of a template are never cut; what is cut is counted in the order of the document.
        away=prompts.coming([ids[0], prompts.CUT, (vocabulary.sentinel(1),)]),
    )


def of_kind(
    items: Sequence[HeldOut], kinds: Sequence[tuple[str, str | None]], drawn: Drawn, kind: str
) -> list[Measure]:
    """Error of the edits of a kind; whether the colour was reached, where one was asked for."""
    mine = [i for i, (one, _) in enumerate(kinds) if one == kind]
    if not mine:
        return []
    errors = {
        who: [pictures.psnr(picture_of(items[i], "after"), each[i]) for i in mine]
        for who, each in drawn.items()
    }
    found = [Measure(name=f"{kind}, PSNR to the true result in dB", scores=errors)]
    reached = {"color": thing_color, "ground": edits.ground_of}.get(kind)
    if reached:
        hits = {who: [float(reached(each[i]) == kinds[i][1]) for i in mine] for who, each in drawn.items()}
        found.append(Measure(name=f"{kind}, reached the word asked for", scores=hits))
    return found


def thing_color(picture: Pixels) -> str | None:
    """The colour word of what stands on a plain ground."""
    found = scenes.foreground(picture)
    return None if found is None else edits.color_of(picture, found.mask)


def shown(bench: Bench, item: HeldOut, drawn: Drawn, number: int) -> Shown:
    true, given = picture_of(item, "after"), picture_of(item, "before")
    return Shown(
        said={"instruction": item.record.instruction},
        pictures={
            "given": bench.shown(given, item.sources),
            MODEL: drawn[MODEL][number],
            "true": bench.shown(true, item.sources),
            COPY: bench.shown(drawn[COPY][number], item.sources),
        },
    )


def filled(bench: Bench) -> Judged:
    items = bench.items(Captioned, lambda record: record.wording == 0)
    if not items or not bench.known.uids:
        return nothing("Infill", "no held-out picture has a caption to stand beside it")
    true = [picture_of(item, "image") for item in items]
    codes = list(bench.encoded(true))
    rows = [cut(item.name, bench.studio.num_codes) for item in items]
    near = nearest(bench, true, rows)
    rng = bench.rng("chance", "infill")
    random = bench.known.codes_NT[rng.integers(len(bench.known.uids), size=len(items))]
    beside = {
        CHANCE: bench.decoded(spliced(codes, rows, list(random))),
        COPY: bench.decoded(spliced(codes, rows, [bench.known.codes_NT[i] for i in near])),
        CEILING: bench.decoded(codes),
    }
    masks = [mask(one, bench.studio.num_codes, bench.studio.side) for one in rows]
    painted = [mean_filled(one, hole) for one, hole in zip(true, masks, strict=True)]
    ways = {
        "left to right": bench.decoded(continued(bench, items, codes, rows)),
        "cut and asked for behind the end": bench.decoded(infilled(bench, items, codes, rows)),
    }

    def errors(each: Sequence[Pixels]) -> list[float]:
        return [pictures.psnr(a, b, hole) for a, b, hole in zip(true, each, masks, strict=True)]

    others_ = {who: errors(each) for who, each in [*beside.items(), ("mean color of the rest", painted)]}
    drawn = {MODEL: ways["left to right"], **beside}
    return Judged(
        title="Infill",
        about=(
            "A quarter of the rows of tokens is missing; PSNR of that region against the true picture, in dB."
            " Left to right: what is above it and the caption are seen, as in the playground. Cut: all around "
            "is seen, as the CM3 objective cuts; a run that was trained on whole cuts alone never saw that. "
            "Chance: the region of a random training picture. Copy: of the training picture most like what "
            "is left. Ceiling: the true codes."
        ),
        measures=[
            Measure(name=f"PSNR of the region in dB, {way}", scores={MODEL: errors(each), **others_})
            for way, each in ways.items()
        ],
        shown=[
            Shown(
                said={"caption": item.record.caption},
                pictures={
                    "given": bench.shown(blanked(true[i], masks[i]), item.sources),
                    MODEL: bench.shown(drawn[MODEL][i], item.sources),
                    "true": bench.shown(true[i], item.sources),
                    COPY: bench.shown(drawn[COPY][i], [*item.sources, bench.known.uids[near[i]]]),
                },
            )
            for i, item in enumerate(items[:SHOWN])
        ],
    )


def cut(name: str, num_codes: int) -> tuple[int, int]:
    """Tokens [start, stop): a quarter of the rows, neither the first nor the last, by the item's hash.

    >>> start, stop = cut("caption:1", 256)
    >>> (stop - start, start % 16)
    (64, 0)
    """
    grid = math.isqrt(num_codes)
    high = max(1, grid // 4)
    first = 1 + int.from_bytes(name.encode()[-4:], "big") % max(1, grid - high - 1)
    return first * grid, min(grid, first + high) * grid


def continued(
    bench: Bench, items: Sequence[HeldOut], codes: Sequence[Codes], rows: Sequence[tuple[int, int]]
) -> list[Codes]:
    """All codes, drawn behind the caption; outside of the hole the true ones are given."""
    requests = []
    for item, codes_T, (start, stop) in zip(items, codes, rows, strict=True):
        given = vocabulary.from_codes(codes_T).tolist()
        given[start:stop] = [DRAWN] * (stop - start)
        prompt = prompts.image_prompt(bench.studio.words(item.record.caption))
        requests.append(Request(prompt=prompt, given=tuple(given)))
    return bench.draw_codes("infill", requests, bench.studio.num_codes)


def infilled(
    bench: Bench, items: Sequence[HeldOut], codes: Sequence[Codes], rows: Sequence[tuple[int, int]]
) -> list[Codes]:
    """All codes, with the model's in the hole. No guidance: its other stream has no picture to go on with."""
    requests = []
    for item, codes_T, (start, stop) in zip(items, codes, rows, strict=True):
        image = tuple(vocabulary.from_codes(codes_T).tolist())
        caption = bench.studio.words(item.record.caption)
        requests.append(Request(prompt=prompts.infill([caption, image], Hole(1, start, stop))))
    start, stop = rows[0]
    plain = bench.section.model_copy(update={"guidance": 1.0, "method": "top_p"})
    holes = bench.draw_codes("infill cut", requests, stop - start, plain)
    return [
        np.concatenate([codes_T[:start], hole, codes_T[stop:]])
        for codes_T, hole, (start, stop) in zip(codes, holes, rows, strict=True)
    ]


def spliced(codes: Sequence[Codes], rows: Sequence[tuple[int, int]], theirs: Sequence[Codes]) -> list[Codes]:
    """The codes, with another's inside the hole."""
    return [
        np.concatenate([mine[:start], other[start:stop], mine[stop:]])
        for mine, other, (start, stop) in zip(codes, theirs, rows, strict=True)
    ]


def mask(row: tuple[int, int], num_codes: int, side: int) -> Mask:
    """[side, side]: the pixels of those tokens."""
    grid = math.isqrt(num_codes)
    found = np.zeros((side, side), np.bool_)
    found[row[0] // grid * side // grid : row[1] // grid * side // grid] = True
    return found


def nearest(bench: Bench, true: Sequence[Pixels], rows: Sequence[tuple[int, int]]) -> list[int]:
    """Of each picture the training picture with the least error outside of the hole."""
    known = np.stack(bench.known.pictures)[:, ::2, ::2].astype(np.float32)
    found = []
    for picture, row in zip(true, rows, strict=True):
        seen = ~mask(row, bench.studio.num_codes, bench.studio.side)[::2, 0]
        small = picture[::2, ::2].astype(np.float32)
        found.append(int(np.square(known[:, seen] - small[seen]).mean(axis=(1, 2, 3)).argmin()))
    return found


def mean_filled(picture: Pixels, hole: Mask) -> Pixels:
    filled_picture = picture.copy()
    filled_picture[hole] = np.rint(picture[~hole].mean(axis=0))
    return filled_picture


def blanked(picture: Pixels, hole: Mask) -> Pixels:
    """What the model is shown of it: grey where it was cut."""
    seen = picture.copy()
    seen[hole] = 128
    return seen
