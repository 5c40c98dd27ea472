"""National identity numbers whose form can be checked.

Left out are numbers of digits alone whose check one number in ten or eleven passes by chance: the Dutch BSN,
the Polish PESEL, the German tax id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
ODD_VALUES = "1 0 5 7 9 13 15 17 19 21 1 0 5 7 9 13 15 17 19 21 2 4 18 20 11 3 6 8 12 14 16 10 22 25 24 23"
ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", map(int, ODD_VALUES.split()), strict=True))
"""What a character in an odd place of a codice fiscale counts."""


def ssn(text: str) -> bool:
    """United States: no area 000, 666 or 9xx, no group 00, no serial 0000. It has no check digit."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def dni(text: str) -> bool:
    """Spain, DNI and NIE: the letter is the number modulo 23.

    >>> dni("12345678Z"), dni("12345678A"), dni("X1234567L")
    (True, False, True)
    """
    plain = text.replace("-", "")
    number = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return DNI_LETTERS[int(number) % 23] == plain[-1]


def nir(text: str) -> bool:
    """France, with its key: 97 less the number modulo 97."""
    digits = text.replace(" ", "")
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def codice_fiscale(text: str) -> bool:
    """Italy: the last letter is a sum modulo 26.

    >>> codice_fiscale("RSSMRA85T10A562S"), codice_fiscale("RSSMRA85T10A562T")
    (True, False)
    """
    even = {sign: int(sign, 36) - 10 * sign.isalpha() for sign in ODD}
    total = sum((even if place % 2 else ODD)[sign] for place, sign in enumerate(text[:15]))
    return chr(ord("A") + total % 26) == text[15]


def hetu(text: str) -> bool:
    """Finland: the last sign is the nine digits modulo 31.

    >>> hetu("131052-308T"), hetu("131052-308U")
    (True, False)
    """
    return HETU_SIGNS[int(text[:6] + text[7:10]) % 31] == text[10]


def cpf(text: str) -> bool:
    """Brazil, as it is written with dots: two check digits modulo 11.

    >>> cpf("529.982.247-25"), cpf("529.982.247-26")
    (True, False)
    """
    digits = [int(digit) for digit in re.sub(r"\D", "", text)]
    for place in (9, 10):
        total = sum(digit * (place + 1 - at) for at, digit in enumerate(digits[:place]))
        if total * 10 % 11 % 10 != digits[place]:
            return False
    return len(set(digits)) > 1


CHECKS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "us": (r"\d{3}-\d{2}-\d{4}", ssn),
    "es": (r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]", dni),
    "fr": (r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?\d{2} ?\d{3} ?\d{3} ?\d{2}", nir),
    "it": (r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]", codice_fiscale),
    "fi": (r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", hetu),
    "br": (r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf),
}
"""By country: the form, and what must hold of it."""
FORM = re.compile(r"(?<![\w.-])(?a:" + "|".join(form for form, _ in CHECKS.values()) + r")(?![\w-]|\.\d)")
"""Digits are those of ASCII: the checks know no others."""


def holds(text: str) -> bool:
    return any(re.fullmatch(form, text, re.ASCII) and check(text) for form, check in CHECKS.values())
