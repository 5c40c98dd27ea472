"""Edits of a picture by instruction.

The surprising rule: a copy of the input is a strong answer to most edits, since most of a picture stays. So
error is measured against the true result, which a copy has only where nothing had to change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.colors import Pixels
from trainer.evaluation import again, pictures
from trainer.evaluation.bench import ALONE, Bench, Item, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.instruct import edits
from trainer.tasks import Edited

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
JUDGED_KIND = "color"
OTHER = "other"
"""An edit in words that are none of ours, as published sets have them."""
KINDS = (JUDGED_KIND, *(kind for kind in INSTRUCTIONS if kind != JUDGED_KIND), OTHER)
"""In the order of the page; the task is judged by the first that has items."""
TWICE = "top_p"
"""The method that knows two-term guidance; a run may draw its other pictures by another."""
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
    return OTHER, None


def _pattern(wording: str) -> str:
    pieces = re.split(r"\{(\w+)\}", wording)
    words = "|".join(edits.COLORS)
    return "".join(
        (f"(?P<color>{words})" if piece == "color" else ".+") if number % 2 else re.escape(piece)
        for number, piece in enumerate(pieces)
    )


def edited(bench: Bench) -> Judged:
    items = [item for kind in KINDS for item in of_instruction(bench, kind)]
    if not items:
        return nothing(
            "Edits",
            "no held-out picture has an edit, brought along or made, with licences that let pictures be made "
            "of it now",
        )
    kinds = [kind_of(item.record.instruction) for item in items]
    told = (
        "" if bench.section.method == TWICE else f" Drawn by {TWICE}: two-term guidance knows no other way."
    )
    drawn = redrawn(bench, items, [kind for kind, _ in kinds])
    return Judged(
        title="Edits",
        about=(
            f"A picture changed as the instruction says; judged by the PSNR of the kind {kinds[0][0]} "
            "against the true result, in dB; other are those in words that are none of ours. Chance: the "
            f"result of another held-out edit of that kind. {ALONE} Copy: the input as it is. Ceiling: the "
            "true result behind the tokenizer. Reached: the drawn thing, on its plain ground, has the color "
            "word asked for, or the ground has it; a ground may be rough by 32 levels."
            f"{told}"
        ),
        measures=[one for kind in KINDS for one in of_kind(items, kinds, drawn, kind)],
        tables=[again.duplicates(bench, drawn, task=Edited)],
        shown=[shown(bench, item, drawn, i) for i, item in enumerate(items[:SHOWN])],
    )


def of_instruction(bench: Bench, kind: str) -> list[Item[Edited]]:
    return bench.items(
        Edited,
        lambda record: kind_of(record.instruction)[0] == kind,
        1 if kind == JUDGED_KIND else OTHER_SHARE,
        changed=True,
    )


def redrawn(bench: Bench, items: Sequence[Item[Edited]], kinds: Sequence[str]) -> Drawn:
    true = [picture_of(item, "after") for item in items]
    requests = [
        bench.studio.edit_request(picture_of(item, "before"), item.record.instruction) for item in items
    ]
    return {
        MODEL: bench.draw("edit", requests, bench.section.model_copy(update={"method": TWICE})),
        CHANCE: bench.chance(true, kinds, "edit"),
        COPY: bench.through([picture_of(item, "before") for item in items]),
        CEILING: bench.through(true),
    }


def of_kind(
    items: Sequence[Item[Edited]], kinds: Sequence[tuple[str, str | None]], drawn: Drawn, kind: str
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
    reached = {"color": pictures.thing_color, "ground": pictures.ground_color}.get(kind)
    if reached:
        hits = {who: [float(reached(each[i]) == kinds[i][1]) for i in mine] for who, each in drawn.items()}
        found.append(Measure(name=f"{kind}, reached the word asked for", scores=hits))
    return found


def shown(bench: Bench, item: Item[Edited], drawn: Drawn, number: int) -> Shown:
    true, given = picture_of(item, "after"), picture_of(item, "before")
    return Shown(
        said={"instruction": bench.said(item.record.instruction, item.sources)},
        pictures={
            "given": bench.shown(given, item.sources),
            # What is made of a picture shows as much as the picture does.
            MODEL: bench.shown(drawn[MODEL][number], item.sources),
            "true": bench.shown(true, item.sources),
            COPY: bench.shown(drawn[COPY][number], item.sources),
        },
    )
