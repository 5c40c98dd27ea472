import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.guarded.refused import Refused
from tokenizer_service import sizes
from trainer.instruct import published
from trainer.instruct.published import Asked, Boxed, Captioned, Controlled, Edited
from trainer.instruct.scenes import Box


def picture(path: Path, width: int = 8, height: int = 8, turn: int = 1) -> Path:
    """``turn``: its EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path, exif=exif)
    return path


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def refusal(records: Iterator[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        list(records)
    return caught.value


# InstructPix2Pix


def edits(folder: Path, seeds: Any, prompt: Any = None) -> Path:
    written(folder / "seeds.json", seeds)
    told = {"input": "a hill", "edit": "make it  snow", "output": "a snowy hill"}
    written(folder / "0000007" / "prompt.json", told if prompt is None else prompt)
    for seed in (111, 222):
        for i in (0, 1):
            picture(folder / "0000007" / f"{seed}_{i}.jpg")
    return folder


def test_an_edit_is_read_for_every_seed_of_every_prompt(tmp_path: Path) -> None:
    folder = edits(tmp_path, [["0000007", ["111", 222]]])
    assert list(published.instruct_pix2pix(folder)) == [
        Edited(
            before=folder / f"0000007/{seed}_0.jpg",
            instruction="make it snow",
            after=folder / f"0000007/{seed}_1.jpg",
            before_caption="a hill",
            after_caption="a snowy hill",
        )
        for seed in (111, 222)
    ]


def test_an_edit_may_lack_a_caption(tmp_path: Path) -> None:
    (one,) = published.instruct_pix2pix(edits(tmp_path, [["0000007", [111]]], {"edit": "snow", "input": " "}))
    assert (one.before_caption, one.after_caption) == (None, None)


@pytest.mark.parametrize(
    ("seeds", "prompt", "rule"),
    [
        ({"0000007": ["111"]}, None, "shape"),
        ([["0000007"]], None, "shape"),
        ([["0000007", "111"]], None, "shape"),
        ([["0000007", ["../0000007/111"]]], None, "shape"),
        ([["../elsewhere", ["111"]]], None, "path"),
        ([["/etc", ["111"]]], None, "path"),
        ([["0000008", ["111"]]], None, "missing"),
        ([["0000007", ["333"]]], None, "missing"),
        ([["0000007", ["111"]]], {"edit": ["make it snow"]}, "field"),
        ([["0000007", ["111"]]], {"edit": " "}, "field"),
        ([["0000007", ["111"]]], {"edit": "snow", "input": 7}, "field"),
        ([["0000007", ["111"]]], {"edit": "x" * 5000}, "field"),
        ([["0000007", ["111"]]], ["edit"], "shape"),
    ],
)
def test_an_edit_that_is_not_as_published_is_refused(
    tmp_path: Path, seeds: Any, prompt: Any, rule: str
) -> None:
    found = refusal(published.instruct_pix2pix(edits(tmp_path, seeds, prompt)))
    assert found.rule == rule
    assert str(tmp_path) in found.file


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    folder = edits(tmp_path, [["0000007", ["111"]]])
    (folder / "0000007/prompt.json").write_text('{"edit": "make it snow", "edit": "erase it"}')
    found = refusal(published.instruct_pix2pix(folder))
    assert (found.rule, found.file) == ("duplicate_key", str(folder / "0000007/prompt.json"))


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.jpg")
    folder = edits(tmp_path / "set", [["0000007", [111]]])
    target = folder / "0000007/111_1.jpg"
    target.unlink()
    target.symlink_to(folder / "0000007/222_1.jpg")
    assert len(list(published.instruct_pix2pix(folder))) == 1
    target.unlink()
    target.symlink_to(secret)
    assert refusal(published.instruct_pix2pix(folder)).rule == "path"


def test_a_folder_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    edits(tmp_path / "other", [])
    folder = tmp_path / "set"
    written(folder / "seeds.json", [["0000007", [111]]])
    (folder / "0000007").symlink_to(tmp_path / "other/0000007")
    assert refusal(published.instruct_pix2pix(folder)).rule == "path"


def test_a_folder_without_its_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seeds\.json is no file; give the file that was published"):
        list(published.instruct_pix2pix(tmp_path))


# COCO


def coco(annotations: Any = None, images: Any = None) -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "height": 8, "width": 8},
            {"id": 25, "file_name": "000000000025.jpg", "height": 8, "width": 8},
            {"id": 30, "file_name": "000000000030.jpg", "height": 8, "width": 8},
        ]
        if images is None
        else images,
        "annotations": [
            {"image_id": 25, "id": 1, "caption": "A giraffe eats.\n"},
            {"image_id": 9, "id": 2, "caption": "Food on a tray."},
            {"image_id": 25, "id": 3, "caption": "A giraffe by a tree."},
            {"image_id": 30, "id": 4, "caption": "Flowers."},
        ]
        if annotations is None
        else annotations,
    }


def test_captions_of_a_picture_are_one_record_and_what_was_not_fetched_is_passed_over(tmp_path: Path) -> None:
    nine, giraffe = (picture(tmp_path / f"train/{number:012d}.jpg") for number in (9, 25))
    found = published.coco_captions(written(tmp_path / "captions.json", coco()), tmp_path / "train")
    assert list(found) == [
        Captioned(image=nine, captions=("Food on a tray.",)),
        Captioned(image=giraffe, captions=("A giraffe eats.", "A giraffe by a tree.")),
    ]


def test_a_folder_with_none_of_the_pictures_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "val/000000000001.jpg")
    found = refusal(published.coco_captions(written(tmp_path / "c.json", coco()), tmp_path / "val"))
    assert found.rule == "missing"
    assert "none of its 3 pictures" in found.detail


@pytest.mark.parametrize(
    ("document", "rule", "member"),
    [
        ([], "shape", ""),
        ({"images": []}, "field", ""),
        (coco(annotations=[{"image_id": "9", "caption": "x"}]), "field", "annotations[0]"),
        (coco(annotations=[{"image_id": True, "caption": "x"}]), "field", "annotations[0]"),
        (coco(annotations=[{"image_id": -1, "caption": "x"}]), "field", "annotations[0]"),
        (coco(annotations=[{"image_id": 9}]), "field", "annotations[0]"),
        (coco(annotations=[9]), "shape", "annotations[0]"),
        (coco(images=[{"id": 9, "file_name": "../../etc/passwd.jpg"}]), "path", "images[0]"),
        (coco(images=[{"id": 9, "file_name": "/etc/x.jpg"}]), "path", "images[0]"),
        (coco(images=[{"id": 9, "file_name": "a\\..\\x.jpg"}]), "path", "images[0]"),
        (coco(images=[{"id": 9, "file_name": "a\u0000.jpg"}]), "path", "images[0]"),
        (coco(images=[{"id": 9, "file_name": "x" * 2000 + ".jpg"}]), "path", "images[0]"),
        (coco(images=[{"id": 9, "file_name": "x.pkl"}]), "extension", "images[0]"),
        (coco(images=[{"id": 9, "file_name": 7}]), "field", "images[0]"),
    ],
)
def test_a_caption_or_a_name_that_is_not_as_published_is_refused_with_its_place(
    tmp_path: Path, document: Any, rule: str, member: str
) -> None:
    picture(tmp_path / "train/000000000009.jpg")
    found = refusal(published.coco_captions(written(tmp_path / "c.json", document), tmp_path / "train"))
    assert (found.rule, found.member, found.file) == (rule, member, str(tmp_path / "c.json"))


# VQAv2


def vqa(folder: Path, annotation: dict[str, Any] | None = None) -> tuple[Path, Path, Path]:
    questions = {
        "data_type": "mscoco",
        "data_subtype": "val2014",
        "questions": [
            {"image_id": 42, "question": "What is on the table?", "question_id": 42000},
            {"image_id": 73, "question": "How many wheels?", "question_id": 73001},
        ],
    }
    said = ["net"] * 6 + ["ping pong net"] * 3 + ["table"]
    annotations = [
        {
            "question_id": 42000,
            "image_id": 42,
            "multiple_choice_answer": "net",
            "answers": [
                {"answer": word, "answer_confidence": "yes", "answer_id": i + 1}
                for i, word in enumerate(said)
            ],
            "answer_type": "other",
            "question_type": "what is",
        }
        | (annotation or {})
    ]
    picture(folder / "val2014/COCO_val2014_000000000042.jpg")
    return (
        written(folder / "questions.json", questions),
        written(folder / "annotations.json", {"data_subtype": "val2014", "annotations": annotations}),
        folder / "val2014",
    )


def test_a_question_has_the_published_answer_and_all_ten(tmp_path: Path) -> None:
    (record,) = published.vqa_v2(*vqa(tmp_path))
    assert record == Asked(
        image=tmp_path / "val2014/COCO_val2014_000000000042.jpg",
        question="What is on the table?",
        answer="net",
        answers=("net",) * 6 + ("ping pong net",) * 3 + ("table",),
    )


def test_a_question_has_the_first_caption_of_its_picture_where_captions_are_given(tmp_path: Path) -> None:
    told = [{"image_id": number, "caption": f"caption {number}"} for number in (73, 42, 42)]
    captions = written(tmp_path / "captions.json", coco(annotations=told))
    (record,) = published.vqa_v2(*vqa(tmp_path), captions)
    assert record.caption == "caption 42"
    (record,) = published.vqa_v2(*vqa(tmp_path), written(captions, coco()))
    assert record.caption is None


@pytest.mark.parametrize(
    ("annotation", "rule", "member"),
    [
        ({"question_id": 5}, "question", "annotations[0]"),
        ({"multiple_choice_answer": None}, "field", "annotations[0]"),
        ({"answers": "net"}, "field", "annotations[0]"),
        ({"answers": [{"answer": "net"}, {"answer": 7}]}, "field", "annotations[0] answers[1]"),
        ({"answers": ["net"]}, "shape", "annotations[0] answers[0]"),
    ],
)
def test_an_answer_that_is_not_as_published_is_refused(
    tmp_path: Path, annotation: dict[str, Any], rule: str, member: str
) -> None:
    found = refusal(published.vqa_v2(*vqa(tmp_path, annotation)))
    assert (found.rule, found.member) == (rule, member)


def test_a_subset_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    questions, annotations, images = vqa(tmp_path)
    told = json.loads(questions.read_text()) | {"data_subtype": "/../../x"}
    assert refusal(published.vqa_v2(written(questions, told), annotations, images)).rule == "path"


# Open Images

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
ROWS = (
    "0001eeaf4aed83f9,xclick,/m/0cmf2,1,0.25,0.75,0.5,1,0,0,0",
    "000595fe6fee6369,xclick,/m/02wbm,1,0,1,0,1,0,0,1",
    "0001eeaf4aed83f9,xclick,/m/02wbm,1,0.1,0.1001,0.2,0.2001,0,0,0",
    "0001eeaf4aed83f9,xclick,/m/02wbm,1,0.3,0.6,0,0.5,0,0,1",
)


def open_images(folder: Path, rows: tuple[str, ...] = ROWS, classes: str = "") -> tuple[Path, Path, Path]:
    boxes, names = folder / "boxes.csv", folder / "classes.csv"
    boxes.write_text("\n".join((HEADER, *rows)) + "\n")
    names.write_text(classes + "/m/0cmf2,Airplane\n/m/02wbm,Food\n")
    picture(folder / "train/0001eeaf4aed83f9.jpg")
    picture(folder / "train/000595fe6fee6369.jpg")
    return boxes, names, folder / "train"


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_boxes_are_gathered_by_picture_in_the_grid_and_groups_are_left_out(
    tmp_path: Path, header: str
) -> None:
    (record,) = published.open_images(*open_images(tmp_path, classes=header))
    assert record == Boxed(
        image=tmp_path / "train/0001eeaf4aed83f9.jpg",
        caption="an airplane and a food",
        things=(("airplane", Box(64, 128, 192, 256)), ("food", Box(26, 51, 27, 52))),
    )


def boxed(*parts: tuple[float, float, float, float]) -> tuple[str, ...]:
    """Rows of airplanes, of left, top, right, bottom."""
    return tuple(f"0001eeaf4aed83f9,x,/m/0cmf2,1,{x0},{x1},{y0},{y1},0,0,0" for x0, y0, x1, y1 in parts)


WIDE = boxed((0.125, 0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 0.5), (0.0, 0.0, 0.2, 1.0), (0.9, 0.0, 1.0, 1.0))
WIDE_IN_SQUARE = [Box(0, 0, 128, 256), Box(0, 64, 128, 128)]
"""The second one clipped; of the others less than half is seen."""


def test_boxes_of_a_picture_that_is_not_square_are_those_of_its_centre_square(tmp_path: Path) -> None:
    told = open_images(tmp_path, WIDE)
    picture(told[2] / "0001eeaf4aed83f9.jpg", 80, 60)
    (record,) = published.open_images(*told)
    assert [box for _, box in record.things] == WIDE_IN_SQUARE
    # Stored on its side, it is shown as wide.
    picture(told[2] / "0001eeaf4aed83f9.jpg", 60, 80, turn=6)
    assert list(published.open_images(*told)) == [record]
    picture(told[2] / "0001eeaf4aed83f9.jpg", 60, 80)
    (tall,) = published.open_images(*told)
    assert tall.things[0] == ("airplane", Box(32, 0, 128, 256))


@pytest.mark.parametrize(("width", "height"), [(80, 60), (60, 80), (81, 57), (64, 64)])
def test_a_thing_is_in_its_box_in_the_picture_that_is_trained_on(width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height * 3 // 8 : height * 5 // 8, width // 3 : width // 2] = 255
    shares = (width // 3 / width, height * 3 // 8 / height, width // 2 / width, height * 5 // 8 / height)
    box = published.in_square(shares, width, height)
    assert box is not None
    seen = sizes.fit_square(pixels, min(width, height))
    rows, columns = np.nonzero(seen[..., 0])
    at = box.scaled(min(width, height))
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(found, (at.x0, at.y0, at.x1, at.y1))).max() <= 1


def test_a_picture_whose_boxes_are_all_cut_off_is_passed_over(tmp_path: Path) -> None:
    told = open_images(tmp_path, WIDE[2:])
    picture(told[2] / "0001eeaf4aed83f9.jpg", 80, 60)
    assert list(published.open_images(*told)) == []


def test_a_picture_without_a_size_is_refused(tmp_path: Path) -> None:
    told = open_images(tmp_path)
    (told[2] / "0001eeaf4aed83f9.jpg").write_bytes(b"GIF89a")
    found = refusal(published.open_images(*told))
    assert found.rule == "picture"
    assert "0001eeaf4aed83f9.jpg" in found.detail


def test_a_name_that_is_there_twice_is_once_in_the_caption(tmp_path: Path) -> None:
    (record,) = published.open_images(*open_images(tmp_path, (ROWS[0], ROWS[0])))
    assert (record.caption, len(record.things)) == ("an airplane", 2)


def test_the_first_narrative_of_a_picture_is_its_caption(tmp_path: Path) -> None:
    narratives = tmp_path / "narratives.jsonl"
    told = [
        {
            "image_id": "0001eeaf4aed83f9",
            "caption": "In this image there is a plane.",
            "traces": [[{"x": 0.1}]],
        },
        {"image_id": "0001eeaf4aed83f9", "caption": "Another one."},
    ]
    narratives.write_text("\n".join(map(json.dumps, told)))
    (record,) = published.open_images(*open_images(tmp_path), narratives)
    assert record.caption == "In this image there is a plane."


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("a,x,/m/nothing,1,0,1,0,1,0,0,0", "class"),
        ("a,x,/m/0cmf2,1,0.5,0.4,0,1,0,0,0", "box"),
        ("a,x,/m/0cmf2,1,0,1.5,0,1,0,0,0", "box"),
        ("a,x,/m/0cmf2,1,nan,1,0,1,0,0,0", "box"),
        ("a,x,/m/0cmf2,1,left,1,0,1,0,0,0", "field"),
        ("a,x,/m/0cmf2,1,,1,0,1,0,0,0", "field"),
        ("../a,x,/m/0cmf2,1,0,1,0,1,0,0,0", "path"),
        (",x,/m/0cmf2,1,0,1,0,1,0,0,0", "field"),
        ("a,x,/m/0cmf2,1,0,1,0,1,0,0", "width"),
    ],
)
def test_a_box_that_is_not_as_published_is_refused(tmp_path: Path, row: str, rule: str) -> None:
    assert refusal(published.open_images(*open_images(tmp_path, (row,)))).rule == rule


# ControlNet


def controlled(folder: Path, *lines: str) -> Path:
    for name in ("source/0.png", "target/0.png"):
        picture(folder / name)
    file = folder / "prompt.json"
    file.write_text("\n".join(lines))
    return file


LINE = '{"source": "source/0.png", "target": "target/0.png", "prompt": "pale golden rod circle"}'


def test_a_pair_is_read_with_the_kind_of_map_that_is_told(tmp_path: Path) -> None:
    (record,) = published.controlnet(controlled(tmp_path, LINE, ""), "openpose")
    assert record == Controlled(
        kind="openpose",
        map=tmp_path / "source/0.png",
        caption="pale golden rod circle",
        image=tmp_path / "target/0.png",
    )


def test_a_kind_that_nobody_knows_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no maps are called 'canny'; they are canny edge, "):
        list(published.controlnet(controlled(tmp_path, LINE), "canny"))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (LINE.replace("source/0.png", "source/../../0.png"), "path"),
        (LINE.replace("source/0.png", "source/../target/0.png"), "path"),
        (LINE.replace("source/0.png", "source/1.png"), "missing"),
        (LINE.replace("source/0.png", "prompt.json"), "extension"),
        (LINE.replace('"pale golden rod circle"', "null"), "field"),
        ("[]", "shape"),
        (LINE[:-1], "syntax"),
        ('{"source": ' + "[" * 40 + "]" * 40 + "}", "depth"),
    ],
)
def test_a_pair_that_is_not_as_published_is_refused_with_its_line(
    tmp_path: Path, line: str, rule: str
) -> None:
    found = refusal(published.controlnet(controlled(tmp_path, LINE, line), "canny edge"))
    assert (found.rule, found.member) == (rule, "line 2")


def test_records_come_one_by_one_before_a_later_one_is_refused(tmp_path: Path) -> None:
    records = published.controlnet(controlled(tmp_path, LINE, "[]"), "canny edge")
    assert next(records).caption == "pale golden rod circle"
    with pytest.raises(Refused):
        next(records)
