"""Tasks answered in words: captions short and long, and questions about a picture.

The surprising rule: chance at a question is no coin. It knows the form of the question, names blanked, and
says what training answered to it most often; "yes" is right half of the time, and "two" where two is usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline import schema
from trainer.evaluate import word_f1
from trainer.evaluation import known, texts
from trainer.evaluation.bench import Bench, Item, picture_of
from trainer.evaluation.judged import CHANCE, COPY, MODEL, SHOWN, Cell, Judged, Measure, Shown, Table, nothing
from trainer.evaluation.known import Listed
from trainer.sampling import NEIGHBORS
from trainer.tasks import Asked, Captioned, Narrated

Told = Item[Captioned] | Item[Narrated]
Answers = Mapping[str, Sequence[str]]
"""By who answered, in the order of the items."""


def captions(bench: Bench) -> Judged:
    """Short captions; long ones beside them."""
    texts.check_library()
    short = bench.items(Captioned, lambda record: record.wording == 0)
    long = bench.items(Narrated, share=2)
    if not short or not bench.known.uids:
        return nothing("Captions", "no picture, held out or of training, has an example of this task")
    measures, tables = [], []
    answers, copied_of = captioned(bench, short, "caption")
    near = [bench.alike(item, NEIGHBORS) for item in short]
    beside, alone = (
        {**answers, MODEL: bench.captions("caption", short, found)} for found in (near, [()] * len(short))
    )
    for name, items, said in (
        ("caption", short, beside),
        ("caption alone", short, alone),
        ("caption by instruction", short, answers),
        ("long caption", long, captioned(bench, long, "long")[0]),
    ):
        if items:
            references = true_captions(bench, items)
            measures += caption_measures(name, said, references)
            tables.append(bleu_table(name, said, references))
    return Judged(
        title="Captions",
        about=(
            "The words that the model writes for a picture, against the licensed ones: as `pardalis sample` "
            f"asks, behind the {NEIGHBORS} pictures of training that are most like it, or alone, or in the "
            "words of instruction tuning; the likeliest token each time. Chance: "
            "the caption of a random training picture. Copy: that of the training picture nearest to it by "
            "the corpus's encoder. F1 of words, and CIDEr-D (0 to 10; a true caption of fewer than four "
            "words cannot reach 10)."
        ),
        measures=measures,
        tables=tables,
        shown=[
            shown(bench, item, beside, copied_of[i], i, [one.uid for one in near[i]])
            for i, item in enumerate(short[:SHOWN])
        ],
    )


def captioned(bench: Bench, items: Sequence[Told], name: str) -> tuple[Answers, list[tuple[str, ...]]]:
    """By the model, by chance and by copy: captions of the training examples of the same task; and of which
    assets the copied ones are.
    """
    if not items:
        return {MODEL: [], CHANCE: [], COPY: []}, []
    kind = type(items[0].record)
    by_picture = {one.record.image.uid: one.record.caption for one in bench.known.trained(kind)}
    uids = [uid for uid in bench.known.uids if uid in by_picture] or list(bench.known.uids)
    told = {uid: by_picture.get(uid, bench.known.description(uid)) for uid in uids}
    rng = bench.rng("chance", name)
    vectors_ND = np.stack([bench.known.vectors[uid] for uid in uids])
    nearest = [
        uids[int(np.argmax(vectors_ND @ bench.known.vectors[item.record.image.uid]))] for item in items
    ]
    answers = {
        MODEL: bench.answers(name, items),
        CHANCE: [told[uids[i]] for i in rng.integers(len(uids), size=len(items))],
        COPY: [told[uid] for uid in nearest],
    }
    return answers, [(uid,) for uid in nearest]


def true_captions(bench: Bench, items: Sequence[Told]) -> list[list[str]]:
    """All that held-out examples of the task say of each item's picture."""
    kind, found = type(items[0].record), dict[str, set[str]]()
    for one in known.of_kind(bench.known.held_out, kind):
        found.setdefault(one.record.image.uid, set()).add(one.record.caption)
    return [sorted(found[item.record.image.uid]) for item in items]


def caption_measures(name: str, said: Answers, references: Sequence[Sequence[str]]) -> list[Measure]:
    return [
        Measure(
            name=f"{name}, F1 of words", scores={who: f1(each, references) for who, each in said.items()}
        ),
        Measure(
            name=f"{name}, CIDEr-D", scores={who: texts.cider(each, references) for who, each in said.items()}
        ),
    ]


def f1(captions_: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    return [
        word_f1(texts.words(one), [texts.words(true) for true in several])
        for one, several in zip(captions_, references, strict=True)
    ]


def bleu_table(name: str, said: Answers, references: Sequence[Sequence[str]]) -> Table:
    rows: list[list[Cell]] = [[who, *texts.bleu(each, references)] for who, each in said.items()]
    return Table(
        title=f"{name}, BLEU of all together", head=["", *(f"BLEU-{n}" for n in range(1, 5))], rows=rows
    )


def shown(
    bench: Bench,
    item: Told | Item[Asked],
    answers: Answers,
    copied_of: Sequence[str],
    number: int,
    near: Sequence[str] = (),
) -> Shown:
    """What the model says of a picture is shown where the picture is, and its neighbors are; the copied words
    where theirs is.
    """
    asked = {"question": item.record.question} if isinstance(item.record, Asked) else {}
    true = str(getattr(item.record, item.record.TARGET))
    mine = {**asked, "true": true}
    return Shown(
        said={
            **{name: bench.said(words, item.sources) for name, words in mine.items()},
            MODEL: bench.said(answers[MODEL][number], [*item.sources, *near]),
            COPY: bench.said(answers[COPY][number], [*item.sources, *copied_of]),
        },
        pictures={"given": bench.shown(picture_of(item, "image"), item.sources)},
    )


def questions(bench: Bench) -> Judged:
    items = bench.items(Asked)
    if not items:
        return nothing(
            "Questions", "no held-out picture has a question; do its licences grant derived captions?"
        )
    answers, copied_of = answered(bench, items)
    true = [item.record.answer for item in items]
    given = true_answers(bench, items)
    scores = {
        who: [texts.vqa_accuracy(one, several) for one, several in zip(each, given, strict=True)]
        for who, each in answers.items()
    }
    return Judged(
        title="Questions",
        about=(
            f"Accuracy as VQA has it: {sum(len(one) > 1 for one in given)} of {len(given)} questions have "
            "the answers of several people; with one true answer, whether it is that, behind VQA's "
            "normalisation. "
            "Chance: the commonest answer of training to a question of the same form, names blanked. Copy: "
            "the answer to the training question of that form with the most words in common, of several the "
            "one about the nearest picture."
        ),
        measures=[Measure(name="accuracy", scores=scores), *by_answer(scores, true)],
        shown=[shown(bench, item, answers, copied_of[i], i) for i, item in enumerate(items[:SHOWN])],
    )


def true_answers(bench: Bench, items: Sequence[Item[Asked]]) -> list[tuple[str, ...]]:
    """All that people answered to each question; where it did not come along, the example's own answer."""
    revisions = {
        item.record.image.uid: bench.studio.fact(item.record.image.uid, schema.REVISION) for item in items
    }
    found = known.answers(bench.corpus, bench.version, revisions)
    return [found.get(item.record, (item.record.answer,)) for item in items]


def by_answer(scores: Mapping[str, Sequence[float]], true: Sequence[str]) -> list[Measure]:
    """Yes and no apart from all else, of which the first are half right by guessing."""
    is_polar = np.array([texts.plain(one) in {"yes", "no"} for one in true])
    parts = {"yes or no": is_polar, "other answers": ~is_polar}
    return [
        Measure(
            name=f"accuracy, {name}",
            scores={who: [each[i] for i in np.flatnonzero(mine).tolist()] for who, each in scores.items()},
        )
        for name, mine in parts.items()
        if mine.any()
    ]


def answered(bench: Bench, items: Sequence[Item[Asked]]) -> tuple[Answers, list[tuple[str, ...]]]:
    """By the model, by chance and by copy; and of which assets the copied answers are."""
    names = bench.known.names
    trained: dict[str, list[Listed[Asked]]] = {}
    for one in bench.known.trained(Asked):
        trained.setdefault(texts.form(one.record.question, names), []).append(one)
    counts = {form: Counter(one.record.answer for one in some) for form, some in trained.items()}
    forms = [texts.form(item.record.question, names) for item in items]
    everything = [one for some in trained.values() for one in some]
    copies = [
        copied(bench, item, trained.get(form, everything)) for item, form in zip(items, forms, strict=True)
    ]
    answers = {
        MODEL: bench.answers("question", items),
        CHANCE: [texts.commonest(counts, form) for form in forms],
        COPY: ["" if one is None else one.record.answer for one in copies],
    }
    return answers, [() if one is None else one.sources for one in copies]


def copied(bench: Bench, item: Item[Asked], candidates: Sequence[Listed[Asked]]) -> Listed[Asked] | None:
    """The question most like it, beside the picture most like its picture."""
    asked = item.record.question
    scores = [word_f1(one.record.question, [asked]) for one in candidates]
    best = max(scores, default=0.0)
    close = [one for one, score in zip(candidates, scores, strict=True) if score == best]
    (mine_D,) = bench.vectors([picture_of(item, "image")])

    def alike(one: Listed[Asked]) -> float:
        vector_D = bench.known.vector(one.record.image.uid, one.sources)
        return -1.0 if vector_D is None else float(vector_D @ mine_D)

    return max(close, key=alike) if close else None
