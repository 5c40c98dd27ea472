"""Instruction examples from a few licensed pictures: captions, questions, maps, edits, scenes and signs.

Nothing is fetched and no model is asked: what is said of a picture is in its catalog row, or was put there
by the operation that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from pydantic import Field

from infra.settings import Section
from pipeline import captions
from pipeline.colors import Pixels
from pipeline.split import VALIDATION
from trainer.instruct import answers, maps, scenes, signs
from trainer.instruct.changing import Paints, of_edits, of_scene_edits
from trainer.instruct.scenes import Scene
from trainer.instruct.wording import a, joined
from trainer.instruct.world import Asset, Example, World, line, uid, uids, written
from trainer.tasks import (
    Asked,
    Captioned,
    Controlled,
    Grounded,
    Narrated,
    Picture,
    Placed,
    Written,
)


class Amounts(Section):
    """``[trainer.instruct.each]``: examples that are made of one asset, by what they are made from."""

    captions: int = Field(default=2, ge=0)
    paragraphs: int = Field(default=1, ge=0)
    questions: int = Field(default=3, ge=0)
    scene_questions: int = Field(default=2, ge=0)
    color_questions: int = Field(default=2, ge=0)
    controls: int = Field(default=2, ge=0)
    scene_controls: int = Field(default=1, ge=0)
    edits: int = Field(default=2, ge=0)
    scene_edits: int = Field(default=2, ge=0)
    boxes: int = Field(default=1, ge=0)
    scenes: int = Field(default=3, ge=0)
    signs: int = Field(default=2, ge=0)


Maker = Callable[[World, Asset, int], Iterator[Example]]


def examples(world: World, each: Amounts) -> Iterator[Example]:
    """All that is made of a world, asset by asset. What a template cannot say is left out, and of what
    has no caption nothing is made.
    """
    for asset in (one for one in world.assets if one.is_captioned):
        for name, maker in MAKERS.items():
            yield from maker(world, asset, getattr(each, name))


def of_captions(_world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Each wording in turn: as instruction data, and as pre-training has it."""
    for number in range(num):
        wording = number % len(Captioned.TEMPLATES)
        for record in written(Captioned, caption=line(asset.name), image=Picture(asset.uid), wording=wording):
            yield Example(record=record, words=asset.uid, sources=(asset.uid,))


def of_paragraphs(world: World, asset: Asset, num: int) -> Iterator[Example]:
    if not asset.may_derive:
        return
    rng = world.rng(asset, "paragraph")
    for _ in range(num):
        caption = line(answers.paragraph(seen(asset), description=asset.name, rng=rng))
        wording = int(rng.integers(len(Narrated.TEMPLATES)))
        for record in written(Narrated, caption=caption, image=Picture(asset.uid), wording=wording):
            yield Example(record=record, words=asset.uid, sources=(asset.uid,))


def seen(asset: Asset) -> answers.Seen:
    return answers.Seen(
        name=asset.name, keywords=asset.keywords, color=asset.color, image_type=asset.image_type
    )


def of_questions(world: World, asset: Asset, num: int) -> Iterator[Example]:
    if not asset.may_derive:
        return
    rng = world.rng(asset, "question")
    found = answers.questions(seen(asset), others=world.names, rng=rng)
    for i in rng.permutation(len(found))[:num]:
        words, sources = asset.uid, [asset.uid]
        if (absent := found[i].absent) is not None:
            # Its words are another asset's too, and go where that one goes.
            sources = sorted({asset.uid, world.named[absent]})
            words = uid("question", sources, world.seed, asset.uid, int(i))
        yield from _asked(found[i], Picture(asset.uid), words, tuple(sources), rng)


def _asked(
    question: answers.Question,
    picture: Picture,
    words: str,
    sources: tuple[str, ...],
    rng: np.random.Generator,
    pictures: Mapping[str, Pixels] | None = None,
) -> Iterator[Example]:
    wording = int(rng.integers(len(Asked.TEMPLATES)))
    values = {"question": line(question.text), "answer": line(question.answer)}
    for record in written(Asked, image=picture, wording=wording, **values):
        yield Example(record=record, words=words, sources=sources, pictures=pictures or {})


def of_scene_questions(world: World, asset: Asset, num: int) -> Iterator[Example]:
    rng = world.rng(asset, "scene question")
    for number in range(num):
        staged = world.staged(asset, 2, rng)
        if staged is None:
            return
        scene, cast = staged
        drawn, sources = scene.drawn(world.side), uids(cast)
        name = uid("scene question", sources, world.seed, asset.uid, number)
        things = tuple((thing.name, box) for thing, box in zip(scene.things, drawn.boxes, strict=True))
        among = answers.Seen(name=asset.name, things=things)
        found = answers.questions(among, others=world.names, rng=rng)
        if found:
            question = found[int(rng.integers(len(found)))]
            if question.absent is not None:
                sources = tuple(sorted({*sources, world.named[question.absent]}))
            yield from _asked(question, Picture(name), name, sources, rng, {name: drawn.picture})


def of_color_questions(world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Of the thing or of its ground, painted: no name tells the answer, so it has to be seen, as in the
    balanced pairs of VQA v2 (arXiv 1612.00837).
    """
    rng = world.rng(asset, "color question")
    paints = Paints.of(asset) if num else None
    if paints is None:
        return
    for number in range(num):
        thing = bool(rng.integers(2))
        edit, color = paints.painted(rng, thing=thing)
        name = uid(f"question {edit.recipe}", [asset.uid], world.seed, number)
        question = answers.painted(asset.name if thing else None, color, rng)
        yield from _asked(question, Picture(name), asset.uid, (asset.uid,), rng, {name: edit.after})


def of_controls(world: World, asset: Asset, num: int) -> Iterator[Example]:
    if not asset.may_derive:
        return
    rng = world.rng(asset, "control")
    for kind in dict.fromkeys(world.maps[i] for i in rng.permutation(len(world.maps))):
        if num == 0:
            return
        found = maps.MAPS[kind](asset.pixels)
        if found is None:
            continue
        num -= 1
        name = uid(f"map {kind}", [asset.uid], world.side)
        values = {"map": Picture(name), "caption": line(asset.name), "image": Picture(asset.uid)}
        for record in written(Controlled, kind=kind, **values):
            yield Example(record=record, words=asset.uid, sources=(asset.uid,), pictures={name: found})


def of_scene_controls(world: World, asset: Asset, num: int) -> Iterator[Example]:
    """A map of any kind that the scene has, by lot."""
    rng = world.rng(asset, "scene control")
    for number in range(num):
        staged = world.staged(asset, 1, rng)
        if staged is None:
            return
        scene, cast = staged
        kind, picture = world.maps[int(rng.integers(len(world.maps)))], scene.drawn(world.side).picture
        if (found := maps.MAPS[kind](picture)) is None:
            continue
        sources = uids(cast)
        names = [
            uid(f"{what} of scene", sources, world.seed, asset.uid, number)
            for what in (f"map {kind}", "picture")
        ]
        values = {"map": Picture(names[0]), "caption": named(scene), "image": Picture(names[1])}
        pictures = dict(zip(names, (found, picture), strict=True))
        for record in written(Controlled, kind=kind, **values):
            yield Example(record=record, words=names[1], sources=sources, pictures=pictures)


def named(scene: Scene) -> str:
    """Its things in words: "an apple and a car"."""
    return joined([a(line(thing.name)) for thing in scene.things])


def of_boxes(_world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Of the one thing that is found on a plain ground; of several it is not known which has the name."""
    found = scenes.detect(asset.pixels) if asset.may_derive and num else []
    if len(found) != 1:
        return
    name = line(asset.name)
    values = {"caption": a(name), "things": (Placed(name, found[0]),), "image": Picture(asset.uid)}
    for record in written(Grounded, **values):
        yield Example(record=record, words=asset.uid, sources=(asset.uid,))


def of_scenes(world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Of two things or three: near the place of one alone there is one in any thousand layouts, so that
    placing would not have to be learnt.
    """
    rng = world.rng(asset, "scene")
    for number in range(num):
        staged = world.staged(asset, 2, rng)
        if staged is None:
            return
        scene, cast = staged
        drawn, sources = scene.drawn(world.side), uids(cast)
        name = uid("scene", sources, world.seed, asset.uid, number)
        things = tuple(
            Placed(line(thing.name), box) for thing, box in zip(scene.things, drawn.boxes, strict=True)
        )
        for record in written(Grounded, caption=named(scene), things=things, image=Picture(name)):
            yield Example(record=record, words=name, sources=sources, pictures={name: drawn.picture})


HELD_OUT = 0.1
"""Of all texts that a sign may bear, those that only held-out ones do: by hash, so that no shard need know of
another's."""


def of_signs(world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Texts of no asset; they are made beside one so that a shard has its share of them."""
    rng = world.rng(asset, "sign")
    while num:
        (text,) = signs.words(rng, 1)
        held_out = captions.digest("sign", text)[0] < HELD_OUT * 256
        if held_out != (world.split == VALIDATION):
            continue
        num -= 1
        name = uid("sign", [], text, world.seed, asset.uid, num)
        for record in written(Written, text=text, image=Picture(name)):
            yield Example(
                record=record, words=name, sources=(), pictures={name: signs.sign(text, world.side, rng)}
            )


MAKERS: Mapping[str, Maker] = {
    "captions": of_captions,
    "paragraphs": of_paragraphs,
    "questions": of_questions,
    "scene_questions": of_scene_questions,
    "color_questions": of_color_questions,
    "controls": of_controls,
    "scene_controls": of_scene_controls,
    "edits": of_edits,
    "scene_edits": of_scene_edits,
    "boxes": of_boxes,
    "scenes": of_scenes,
    "signs": of_signs,
}
"""By the names of :class:`Amounts`."""
