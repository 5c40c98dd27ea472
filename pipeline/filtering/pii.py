"""Personal data in words: what has a form that can be checked, and nothing else. Names are not looked for.

The surprising rule: digits alone are not enough. A card passes Luhn and has an issuer's prefix, an IBAN its
country's length and mod 97, a national id its own check; a telephone number has a plus, brackets, the
American grouping or a word before it. Catalogs are full of numbers: sizes, years, ids of assets. All of it is
looked for in plain signs (``signs``): digits of any script, any dash, and nothing that is not seen.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.filtering import national_ids, signs

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    form: re.Pattern[str]
    """Its group ``found`` is the personal part, where the whole holds more."""
    holds: Check


IBAN_LENGTHS: Mapping[str, int] = {
    told[:2]: int(told[2:])
    for told in re.findall(
        r"\w+",
        "AD24 AE23 AT20 BE16 BG22 BR29 CH21 CY28 CZ24 DE22 DK18 EE20 ES24 FI18 FR27 GB22 GR27 HR21 HU28 IE22 "
        "IL23 IS26 IT27 LI21 LT20 LU20 LV21 MC27 MT31 NL18 NO15 PL28 PT25 RO24 RS22 SA24 SE24 SI19 SK24 SM27 "
        "TR26 UA29",
    )
}
IBAN = "|".join(
    rf"{country}\d\d(?:[ -]?[A-Z0-9]{{4}}){{{length // 4 - 1}}}"
    + (rf"[ -]?[A-Z0-9]{{{length % 4}}}" if length % 4 else "")
    for country, length in IBAN_LENGTHS.items()
)
"""Each as long as its country's: a word of four letters after it is no part of it."""
CARD = re.compile(
    r"4(?:\d{12}|\d{15})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[068]\d{12}|6(?:011|[45]\d\d)\d{12}"
)
"""Prefixes and lengths of Visa, Mastercard, American Express, Diners and Discover."""


def luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(CARD.fullmatch(digits)) and len(set(digits)) > 1 and luhn(digits)


def is_iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97 with its first four characters moved to the end."""
    plain = re.sub("[ -]", "", text).upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def is_phone(text: str) -> bool:
    """As many digits as ITU-T E.164 allows and a subscriber has."""
    return 7 <= len(re.sub(r"\D", "", text).removeprefix("00")) <= 15


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


KINDS: Mapping[str, Pattern] = {
    "email": Pattern(
        form=re.compile(
            r"(?<![\w.+-])[.-]*+(?P<found>[\w+][\w.+-]*+@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24})(?![^\W_])"
        ),
        holds=bool,
    ),
    "iban": Pattern(form=re.compile(rf"(?<!\w)(?ai:{IBAN})(?!\w)"), holds=is_iban),
    "card": Pattern(form=re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-])"), holds=is_card),
    "national_id": Pattern(form=national_ids.FORM, holds=national_ids.holds),
    "ip": Pattern(
        form=re.compile(
            r"(?<![\w.:])(?<!version )"
            r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{1,4}:{1,2}){3,7}[0-9a-f]{1,4})(?![\w:]|\.\d)",
            re.IGNORECASE,
        ),
        holds=is_ip,
    ),
    "phone": Pattern(
        form=re.compile(
            r"(?<![\w+])(?:"
            r"\+\d{1,3}(?:[ ./-]?\(?\d{1,5}\)?){2,6}"  # +49 (0)30 901820
            # 0044 20 7946 0958: ten digits and more after the zeros, for an archive counts 0001, 0002 as well
            r"|00(?=(?:[ ()-]{0,2}\d){10})[1-9]\d{0,2}[ -](?:\(0\) ?)?[1-9]\d{0,9}(?:[ -]\d{2,8}){1,4}"
            r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (212) 555-0123
            r"|(?:1[ .-])?[2-9]\d{2}([ .-])[2-9]\d{2}\1\d{4}"  # 212-555-0123
            r"|(?:tel|phone|telephone|call|mobile|fax|whatsapp|telefon|tél)\b[.:]*\s*"
            r"(?P<found>[\d(][\d ()./-]{5,18}\d)"
            r")(?!\w|-\w)",
            re.IGNORECASE,
        ),
        holds=is_phone,
    ),
}
"""In the order in which a text is searched: what one found, the next do not see."""
ANY = re.compile(r"[\d@]")
"""Every form has one of these, and few captions have."""
TAKEN = "\0"
"""Stands where something was found, so that a number before it does not go on into it."""


def spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Where personal data stands: start, end and kind, of no two the same character."""
    plain = signs.fold(text)
    left = plain.text
    if not ANY.search(left):
        return
    for kind, pattern in KINDS.items():
        for match in pattern.form.finditer(left):
            group = "found" if match.groupdict().get("found") else 0
            start, end = match.span(group)
            if pattern.holds(match[group]):
                left = f"{left[:start]}{TAKEN * (end - start)}{left[end:]}"
                yield *plain.span(start, end), kind


def redacted(text: str) -> str:
    """The text with a placeholder for each finding.

    >>> redacted("write to ann@example.org")
    'write to [email]'
    """
    for start, end, kind in sorted(spans(text), reverse=True):
        text = f"{text[:start]}[{kind}]{text[end:]}"
    return text
