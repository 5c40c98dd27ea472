"""What a drawing of openclipart is called."""

from __future__ import annotations

import pytest

from pipeline.deliveries.titles import caption, told


@pytest.mark.parametrize(
    ("stem", "title", "description", "said"),
    [
        ("apple_ann_b_01", "Apple", "", "Apple"),
        ("apple_01", "", "", "apple"),
        ("card_c_9", "", "", "card c 9"),
        ("01", "", "", "01"),
        ("rubik", "Clipart by Nicu Buculei - piggybank", "", "rubik"),
        ("humpback", "SVG Road Signs", "", "SVG Road Signs: humpback"),
        ("aiga_bar_", "AIGA Symbol Signs", "", "AIGA Symbol Signs: aiga bar"),
        ("red_apple_01", "Red Apple", "An apple that is red", "Red Apple. An apple that is red"),
        ("red_apple_01", "Red Apple", "An apple so red", "Red Apple. An apple so red"),
        ("red_apple_01", "Red Apple", "A red apple", "Red Apple"),
        ("red_apple_on_table_01", "Red Apple on Table", "red apple on table", "Red Apple on Table"),
        ("apple_01", "Apple", "see all of it at www.example.org", "Apple"),
        ("apple_01", "Apple", "write to me at ann@example.org", "Apple"),
        ("apple_01", "Apple", 'This is <a href="x">public domain</a> art', "Apple"),
        ("apple_01", "Apple", "so many words HASH(0x868a30c)", "Apple"),
    ],
)
def test_a_caption_is_the_title_the_file_name_and_the_description_where_each_says_something(
    stem: str, title: str, description: str, said: str
) -> None:
    assert caption(stem, title, description) == said


def test_what_scripts_left_is_not_told() -> None:
    noise = ["hash", "HASH(0x8a07724)", "0x87fadcc", "", "  ", "unsorted", "none"]
    assert told([*noise, "a_b", "a b", "hashish", "l&#39;eau"]) == ["a b", "hashish", "l'eau"]
    assert told(["Part of the Flat Icon Collection (Wed Aug 25 23:29:46 2004)"]) == [
        "Part of the Flat Icon Collection"
    ]
