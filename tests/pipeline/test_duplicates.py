import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from pipeline import schema
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.likeness import candidates, grouping, lookalikes, perceptual
from pipeline.likeness.grouping import connected
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.pieces import JUDGED, SPREAD
from pipeline.likeness.signatures import Signatures, from_columns
from pipeline.likeness.signatures import measured as signatures

CONFIG = DuplicateConfig()
Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
SKIN: list[Color] = [
    (250, 200, 60),
    (240, 205, 190),
    (225, 180, 140),
    (170, 120, 95),
    (125, 85, 70),
    (65, 45, 40),
]
"""The yellow of emoji, then five tones from light to dark."""


def photo(seed: int, *, width: int = 160, height: int = 120) -> Image.Image:
    """Blurred noise at three scales: edges everywhere, as in a photograph."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize((width, height)))
        for side in (4, 9, 20)
    ]
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


def drawing(*shapes: tuple[str, Sequence[float], Color]) -> Pixels:
    """Shapes on white, 256 pixels a side, antialiased."""
    canvas = Image.new("RGB", (512, 512), "white")
    pen = ImageDraw.Draw(canvas)
    for shape, at, color in shapes:
        doubled = [2 * place for place in at]
        if shape == "line":
            pen.line(doubled, fill=color, width=20)
        elif shape == "ball":
            pen.ellipse(doubled, fill=color)
        else:
            pen.rectangle(doubled, fill=color)
    return np.asarray(canvas.resize((256, 256)))


def hand(color: Color) -> Pixels:
    dark: Color = (color[0] // 2, color[1] // 2, color[2] // 2)
    fingers = [("box", (x, 20, x + 38, 120), color) for x in (40, 82, 124, 166)]
    creases = [("line", (x, 120, x - 10, 220), dark) for x in (61, 103, 145, 187)]
    return drawing(*fingers, ("box", (40, 110, 204, 240), color), *creases)


def ball(color: Color) -> Pixels:
    return drawing(("ball", (30, 30, 226, 226), color))


def clock(hour: int) -> Pixels:
    angle = hour / 6 * np.pi
    tip = (128 + 60 * np.sin(angle), 128 - 60 * np.cos(angle))
    return drawing(
        ("ball", (20, 20, 236, 236), (110, 110, 115)),
        ("ball", (40, 40, 216, 216), (225, 222, 228)),
        ("line", (128, 128, 128, 55), (220, 50, 80)),
        ("line", (128, 128, *tip), (40, 35, 60)),
    )


def looks(pictures: Sequence[Pixels]) -> Looks:
    hashes_N, mirrored_N = perceptual.hashes(pictures)
    return Looks(signatures=signatures(pictures), hashes_N=hashes_N, mirrored_N=mirrored_N)


def grouped(pictures: Sequence[Pixels], config: DuplicateConfig = CONFIG) -> list[int]:
    """Of each picture the first that it is connected with."""
    first: list[int] = connected(lookalikes.pairs(looks(pictures), config), len(pictures)).tolist()
    return first


def reencoded(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def altered(picture: Image.Image) -> dict[str, Image.Image]:
    width, height = picture.size
    return {
        "as it is": picture,
        "JPEG at quality 40": reencoded(picture, 40),
        "half the size": picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS),
        "10 % more light": ImageEnhance.Brightness(picture).enhance(1.1),
        "2 % cropped": picture.crop((1, 1, width - 1, height - 1)),
    }


@pytest.mark.parametrize("change", altered(photo(0)))
def test_a_photograph_and_its_altered_copy_are_one_picture_and_others_are_not(change: str) -> None:
    originals = [np.asarray(photo(seed)) for seed in range(6)]
    copies = [np.asarray(altered(photo(seed))[change]) for seed in range(6)]
    assert grouped([*originals, *copies]) == [*range(6), *range(6)]


def test_a_hand_in_every_skin_tone_is_one_picture() -> None:
    assert grouped([hand(color) for color in SKIN]) == [0] * len(SKIN)


@pytest.mark.parametrize("draw", [hand, ball])
def test_the_same_shape_in_another_colour_is_another_picture(draw: object) -> None:
    assert callable(draw)
    colors: list[Color] = [(225, 45, 80), (60, 125, 250), (60, 200, 130), (150, 60, 250), (250, 118, 62)]
    assert grouped([draw(color) for color in colors]) == [0, 1, 2, 3, 4]


def test_orange_and_red_are_no_tones_of_skin() -> None:
    assert grouped([hand(SKIN[0]), hand((250, 118, 62)), hand((225, 45, 80))]) == [0, 1, 2]


def test_stripes_that_rise_and_stripes_that_fall_are_two_pictures() -> None:
    rows, columns = np.indices((64, 64))
    rising, falling = ((rows + sign * columns) // 4 % 2 * 255 for sign in (1, -1))
    stripes = [np.repeat(picture[..., None], 3, -1).astype(np.uint8) for picture in (rising, falling)]
    assert grouped(stripes) == [0, 1]


def test_balls_in_the_tones_of_skin_are_several_pictures() -> None:
    assert grouped([ball(SKIN[0]), ball(SKIN[3]), ball(SKIN[5])]) == [0, 1, 2]


def test_every_hour_of_a_clock_is_another_picture() -> None:
    assert grouped([clock(hour) for hour in range(12)]) == list(range(12))


def test_a_batch_gives_the_signatures_of_its_pictures_alone() -> None:
    pictures = [np.asarray(photo(0)), hand(SKIN[0]), np.asarray(photo(1, width=33, height=300))]
    together, alone = signatures(pictures), [signatures([picture]) for picture in pictures]
    assert np.array_equal(together.structure_NGGF, np.concatenate([one.structure_NGGF for one in alone]))
    assert np.array_equal(together.tint_NGGC, np.concatenate([one.tint_NGGC for one in alone]))


@pytest.mark.parametrize("num", [0, 2])
def test_signatures_come_back_from_the_columns_of_the_catalog(num: int) -> None:
    found = signatures([hand(SKIN[0]), ball(SKIN[1])][:num])
    table = pa.table(
        [[row.tobytes() for row in rows] for rows in (found.structure_NGGF, found.tint_NGGC)],
        schema=pa.schema([schema.STRUCTURE, schema.TINT]),
    )
    again = from_columns(table)
    assert np.array_equal(again.structure_NGGF, found.structure_NGGF)
    assert np.array_equal(again.tint_NGGC, found.tint_NGGC)


def made(structures: list[NDArray[np.int8]], tints: list[Pixels] | None = None) -> Signatures:
    tints = tints or [np.full((16, 16, 3), 200, np.uint8)] * len(structures)
    return Signatures(structure_NGGF=np.stack(structures), tint_NGGC=np.stack(tints))


def strokes(*runs: tuple[int, int]) -> NDArray[np.int8]:
    """Edge strengths, cell by cell: each run is (cells, strength), the rest is blank."""
    flat = np.zeros(256, np.int8)
    strengths = np.concatenate([np.full(*run) for run in runs])
    flat[: len(strengths)] = strengths
    grid = np.zeros((16, 16, 3), np.int8)
    grid[..., 0] = flat.reshape(16, 16)
    return grid


@pytest.mark.parametrize(
    ("cells", "raised", "by", "same"),
    [
        (204, 1, 89, True),  # 89² = 7921 and 0.5 x 127² = 8064
        (204, 1, 90, False),
        (205, 2, 106, True),  # a full frame: 2 x 106² = 22472 and 1.4 x 127² = 22580
        (205, 2, 107, False),
    ],
)
def test_a_local_difference_counts_less_in_a_full_frame(
    cells: int, raised: int, by: int, *, same: bool
) -> None:
    flat, steep = (strokes((raised, 20 + more), (cells - raised, 60)) for more in (0, by))
    assert alike(made([flat, steep]), np.array([[1, 0]]), CONFIG).tolist() == [same]


@pytest.mark.parametrize(("by", "same"), [(89, True), (90, False)])
def test_a_local_difference_counts_half_where_skin_has_another_tone(by: int, *, same: bool) -> None:
    """Twice 89² = 15842, and twice 0.5 x 127² = 16129."""
    flat, steep = (strokes((2, 20 + more), (202, 60)) for more in (0, by))
    tones = [np.full((16, 16, 3), tone, np.uint8) for tone in (SKIN[1], SKIN[4])]
    assert alike(made([flat, steep], tones), np.array([[1, 0]]), CONFIG).tolist() == [same]


@pytest.mark.parametrize(("by", "same"), [(10, True), (11, False)])
def test_a_difference_everywhere_counts_against_the_edges_there_are(by: int, *, same: bool) -> None:
    """Strengths of 20 and 30: 100 / (400 + 900) = 0.077; of 20 and 31: 121 / (400 + 961) = 0.089."""
    found = made([strokes((100, 20)), strokes((100, 20 + by))])
    assert alike(found, np.array([[0, 1]]), DuplicateConfig(max_difference=0.08)).tolist() == [same]


@pytest.mark.parametrize(("cells", "same"), [(10, True), (11, False)])
def test_four_in_a_hundred_cells_may_have_another_colour(cells: int, *, same: bool) -> None:
    blue = np.full((256, 3), (60, 125, 250), np.uint8)
    red = blue.copy()
    red[:cells] = (225, 45, 80)
    found = made([strokes((100, 20))] * 2, [blue.reshape(16, 16, 3), red.reshape(16, 16, 3)])
    assert alike(found, np.array([[1, 0]]), CONFIG).tolist() == [same]


def test_blank_pictures_are_one_picture_if_they_have_one_colour() -> None:
    gray, lighter, blue = (np.full((50, 40, 3), color, np.uint8) for color in ((90,), (91,), (60, 125, 250)))
    assert grouped([gray, lighter, blue, gray]) == [0, 0, 2, 0]


FEW = settings(max_examples=25)
"""Finding pairs takes 15 ms however few the rows are."""
NEAR = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=24)
"""Rows as (photograph, how far it is altered)."""
PHOTOS = [signatures([np.asarray(photo(seed))]) for seed in range(6)]


def family(rows: list[tuple[int, int]]) -> Signatures:
    """The further a picture is altered, the likelier its ends are not alike while neighbours are."""
    noise = np.random.default_rng(0).integers(-9, 10, (4, 16, 16, 3))
    structures = [
        np.clip(PHOTOS[which].structure_NGGF[0] + noise[: far + 1].sum(0) * (far > 0), -127, 127).astype(
            np.int8
        )
        for which, far in rows
    ]
    return made(structures, [PHOTOS[which].tint_NGGC[0] for which, _ in rows])


STRICT = DuplicateConfig(max_difference=0.02)


@FEW
@given(NEAR)
def test_alike_is_symmetric_and_holds_for_a_picture_and_itself(rows: list[tuple[int, int]]) -> None:
    found = family(rows)
    one, two = np.tril_indices(len(rows))
    there, back = (alike(found, np.stack(pair, 1), STRICT) for pair in ((one, two), (two, one)))
    assert np.array_equal(there, back)
    assert there[one == two].all()


@given(st.lists(st.sampled_from("abcde")))
def test_the_first_seen_is_the_first_of_the_equal_ones(values: list[str]) -> None:
    assert lookalikes.first_seen(np.array(values, np.str_)).tolist() == [values.index(one) for one in values]


@given(st.lists(st.sampled_from("abcde")))
def test_values_that_are_equal_by_accident_are_told_apart_by_what_they_stand_for(values: list[str]) -> None:
    found = np.array(values, np.str_)
    for stand_ins in (np.zeros(len(values), np.uint64), found == "a"):
        first_N = lookalikes.first_seen(stand_ins, lambda late_P, early_P: found[late_P] == found[early_P])
        assert first_N.tolist() == [values.index(one) for one in values]


@pytest.mark.parametrize("part", ["structure", "tint", "hash", "mirrored hash", "nothing"])
def test_what_repeats_another_in_all_that_is_compared_is_not_judged(part: str) -> None:
    structures, tints = PHOTOS[0].structure_NGGF.repeat(2, 0), PHOTOS[0].tint_NGGC.repeat(2, 0)
    hashes_N, mirrored_N = np.zeros((2, 2), np.uint64)
    last: dict[str, NDArray[Any]] = {
        "structure": structures,
        "tint": tints,
        "hash": hashes_N,
        "mirrored hash": mirrored_N,
    }
    if part in last:
        last[part].reshape(2, -1)[1, -1] ^= 1
    counts: Counter[str] = Counter()
    found = Looks(signatures=made(list(structures), list(tints)), hashes_N=hashes_N, mirrored_N=mirrored_N)
    assert lookalikes.pairs(found, CONFIG, counts=counts).tolist() == [[1, 0]]
    assert counts[JUDGED] == (part in last)


def test_looks_with_one_fingerprint_are_two_if_they_differ() -> None:
    words = np.zeros((2, 96), np.uint64)
    words[1, :2] = (
        np.negative(SPREAD),
        1,
    )  # a fingerprint is the sum of the words, each times another power of SPREAD
    found = Looks(
        signatures=made(list(words.view(np.int8).reshape(2, 16, 16, 3))),
        hashes_N=np.zeros(2, np.uint64),
        mirrored_N=np.zeros(2, np.uint64),
    )
    assert len(set(lookalikes.fingerprints(found).tolist())) == 1
    assert len(lookalikes.pairs(found, CONFIG)) == 0


def met(structures: NDArray[np.int8]) -> list[tuple[int, int]]:
    """Candidates, in the order in which they were told."""
    return [(late, early) for some in candidates.pairs(structures) for late, early in some.tolist()]


@pytest.mark.long
@FEW
@given(NEAR, st.integers(0, 2**32))
def test_candidates_do_not_depend_on_the_order_of_the_rows(rows: list[tuple[int, int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    structures = family(rows).structure_NGGF
    straight = {frozenset(pair) for pair in met(structures)}
    shuffled = np.array(met(structures[order]), np.int64).reshape(-1, 2)
    assert {frozenset(pair) for pair in order[shuffled].tolist()} == straight


def test_candidates_are_of_rows_wherever_their_structures_stand() -> None:
    structures = family([(0, 0), (1, 0), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1)]).structure_NGGF
    at_N = np.array([3, 6, 0, 5, 2])
    found = [pair for some in candidates.pairs(structures, at_N=at_N) for pair in some.tolist()]
    assert found == [list(pair) for pair in met(structures[at_N])]
    assert [2, 0] in found


def test_candidates_are_distinct_and_the_later_row_stands_first() -> None:
    structures = family([(0, 0), (1, 0), (0, 1), (0, 0), (1, 0)]).structure_NGGF
    pairs = met(structures)
    assert len(set(pairs)) == len(pairs)
    assert {(3, 0), (4, 1)} <= set(pairs)
    assert all(late > early for late, early in pairs)


@pytest.mark.parametrize("num", [0, 1])
def test_no_row_and_one_row_have_no_pairs(num: int) -> None:
    found = signatures([ball(SKIN[0])] * num)
    assert met(found.structure_NGGF) == []
    assert grouped([ball(SKIN[0])] * num) == [0] * num


def test_alike_pictures_meet_among_thousands_of_others() -> None:
    rng = np.random.default_rng(0)
    strength = rng.integers(0, 100, (3000, 16, 16, 1))
    directions = strength * rng.uniform(-1, 1, (3000, 16, 16, 2))
    structures = np.concatenate([strength, directions], -1).astype(np.int8)
    # A difference of 0.05 of the squares, which the limit of 0.065 still lets pass.
    noise = rng.normal(0, 0.31, structures[:500].shape) * structures[:500].std()
    copies = np.clip(structures[:500] + noise, -127, 127).astype(np.int8)
    found = set(met(np.concatenate([structures, copies])))
    assert sum((3000 + row, row) in found for row in range(500)) >= 499
    assert len(found) < 1000


def test_a_picture_and_its_mirror_image_are_one_only_where_that_is_asked_for() -> None:
    pictures = [np.asarray(photo(seed)) for seed in range(4)]
    turned = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    assert grouped([*pictures, *turned]) == [*range(8)]
    assert grouped([*pictures, *turned], DuplicateConfig(mirrored=True)) == [*range(4), *range(4)]


def test_a_mirror_image_has_the_signature_that_is_derived_for_it() -> None:
    pictures = [np.asarray(photo(0, width=128, height=64)), hand(SKIN[2])]
    derived = lookalikes.mirror_images(signatures(pictures))
    turned = signatures([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    structure, tint = derived.structure_NGGF.astype(int), derived.tint_NGGC.astype(int)
    assert np.abs(structure - turned.structure_NGGF).max() <= 1  # means are rounded down, not to zero
    assert np.abs(tint - turned.tint_NGGC).max() <= 1


def test_without_variants_only_pictures_with_like_hashes_are_looked_at() -> None:
    light, dark = hand(SKIN[2]), hand(SKIN[5])  # their hashes differ by 4 bits
    assert grouped([light, dark, light], DuplicateConfig(variants=False, max_hamming=3)) == [0, 1, 0]
    assert grouped([light, dark, light], DuplicateConfig(variants=False, max_hamming=4)) == [0, 0, 0]
    assert grouped([light, dark, light], DuplicateConfig(max_hamming=0)) == [0, 0, 0]


def series(num: int) -> Looks:
    """So many pictures that differ from one by a little noise, all of them."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (num, 16, 16, 3))
    found = Signatures(
        structure_NGGF=np.clip(PHOTOS[0].structure_NGGF + noise, -127, 127).astype(np.int8),
        tint_NGGC=np.repeat(PHOTOS[0].tint_NGGC, num, 0),
    )
    bits = np.uint64(1) << rng.integers(0, 64, (2, num), dtype=np.uint64)
    return Looks(signatures=found, hashes_N=bits[0] ^ bits[1], mirrored_N=~bits[0])


@pytest.mark.long
@pytest.mark.parametrize("starts", [(0, 2000), (0, 700, 1400, 2000)])
def test_a_series_of_one_picture_is_a_group_after_a_few_comparisons_each(starts: tuple[int, ...]) -> None:
    counts: Counter[str] = Counter()
    pairs = lookalikes.pairs(series(2000), CONFIG, starts, counts)
    assert not connected(pairs, 2000).any()
    assert counts[JUDGED] <= 2 * 2000 * (len(starts) - 1)
    assert len(pairs) <= counts[JUDGED]


@pytest.mark.long
@FEW
@given(NEAR, st.lists(st.integers(0, 24), max_size=3), st.booleans())
def test_groups_are_those_of_all_pairs_that_are_alike(
    rows: list[tuple[int, int]],
    cuts: list[int],
    variants: bool,  # noqa: FBT001  # drawn
) -> None:
    found, num = family(rows), len(rows)
    hashes_N = np.array([8**which + (1 << far) for which, far in rows], np.uint64)
    config = DuplicateConfig(max_difference=0.02, max_hamming=2, variants=variants)
    starts = (0, *sorted(min(cut, num) for cut in cuts), num)
    late, early = np.tril_indices(num, -1)
    near = np.bitwise_count(hashes_N[late] ^ hashes_N[early]) <= config.max_hamming
    all_P2 = np.stack([late, early], 1)
    structures = set(met(found.structure_NGGF)) if variants else set()
    looked_at = near | np.array([tuple(pair) in structures for pair in all_P2.tolist()], np.bool_)
    all_P2 = all_P2[looked_at]
    exhaustive = first_of_repeats(all_P2[alike(found, all_P2, config)], rows)
    looks = Looks(signatures=found, hashes_N=hashes_N, mirrored_N=hashes_N)
    told = lookalikes.pairs(looks, config, starts)
    assert set(map(tuple, told.tolist())) <= set(map(tuple, exhaustive.tolist()))
    groups, wanted = (grouping.grouped(starts, [some], np.arange(num)) for some in (told, exhaustive))
    assert groups.first_N.tolist() == wanted.first_N.tolist()
    elsewhere = grouping.linked_elsewhere(groups, [told]).tolist()
    assert elsewhere == grouping.linked_elsewhere(wanted, [exhaustive]).tolist()


def first_of_repeats(pairs_P2: NDArray[np.int64], rows: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Without those of a row that repeats another, but the one with the first."""
    first = [rows.index(row) for row in rows]
    return np.array(
        [
            (late, early)
            for late, early in pairs_P2.tolist()
            if early == first[late] or (late == first[late] and early == first[early])
        ],
        np.int64,
    ).reshape(-1, 2)
