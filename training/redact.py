"""
Find personal data in a text and put placeholders in its place.

E-mail addresses, and the numbers of bank accounts (IBAN), payment cards and phones. What these look like libraries know
that are kept up to date. Where a number could be anything, it is left as it is: a date, a price or an order number is
no phone number.

It is looked for in the text as a person sees it (training.plain): in whatever width, with whatever spaces. All of the
text but what was found stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from training.plain import plainly

if TYPE_CHECKING:
    import pyarrow
    from publicsuffixlist import PublicSuffixList

FORMAT = 2  # of what is found here; another number and what was redacted is read again
LIBRARIES = ("phonenumberslite", "publicsuffixlist", "python-stdnum")  # whose versions find different things

Span = tuple[int, int]
Search = Callable[[str, str | None], Iterator[Span]]  # of a plain text, and the country of its phone numbers


def redacted(text: str, region: str | None) -> tuple[str, tuple[str, ...]]:
    """
    :param region: ISO 3166 code of the country whose phone numbers are found without ``+`` and country code as well.
    :return: the text with placeholders, and the kinds of what was found: keys of ``PLACEHOLDERS``.
    """
    plain, places = plainly(text)
    found: list[tuple[int, int, str]] = []
    kinds = []
    for kind, placeholder in PLACEHOLDERS.items():
        spans = list(_SEARCHES[kind](plain, region))
        for start, end in spans:
            found.append((places[start], places[end - 1] + 1, placeholder))
            plain = f"{plain[:start]}{'<' * (end - start)}{plain[end:]}"  # no other kind looks there
        if spans:
            kinds.append(kind)
    pieces, done = [], 0
    for start, end, placeholder in sorted(found):
        pieces += [text[done:start], placeholder]
        done = end
    return "".join([*pieces, text[done:]]), tuple(kinds)


def may_hold(texts: pyarrow.Array, region: str | None) -> pyarrow.BooleanArray:
    """:return: of each text whether it is worth a look; RE2 reads ten times as fast as Python, and misses none."""
    import pyarrow.compute as pc

    plus = "" if region else "[+＋][^0-9A-Za-z]*"
    patterns = (
        f"[{_LETTER}_.%+'-]@[{_LETTER}]",
        r"[A-Za-z]{2}[0-9]{2}(?:(?: *|-)[0-9A-Za-z]){11}",  # account
        r"[0-9](?:(?: *|-)[0-9]){13}",  # card
        rf"{plus}[0-9](?:[^0-9A-Za-z]*[0-9]){{7}}",  # phone
    )
    found = pc.match_substring_regex(texts, "|".join(patterns))
    # what is written in other characters may be any of them
    others = pc.invert(pc.string_is_ascii(texts))
    loose = rf"\S@\S|[＠﹫]|(?s:\p{{N}}(?:.*\p{{N}}){{{FEWEST_DIGITS - 1}}})"
    in_others = pc.match_substring_regex(texts.filter(others), loose)
    return pc.replace_with_mask(found, others, pc.or_(found.filter(others), in_others))


MOST_DOTS = 20  # of an address's domain, assumed
FEWEST_DIGITS = 8  # of any number that is found; assumed: fewer say too little
# Of Latin script with what is put above and below its letters, or a digit: other scripts write addresses without a
# space around them
_LETTER = "0-9A-Za-zÀ-ɏ\u0300-\u036f"
_EMAIL = re.compile(
    rf"(?<![{_LETTER}])[{_LETTER}_][{_LETTER}_.%+'-]{{0,63}}"
    rf"@(?P<domain>(?:[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?\.){{1,{MOST_DOTS}}}[{_LETTER}-]{{2,63}})"
)
_FIRST_WORD = re.compile(r".*\.(?:[a-z]{2,}|[A-Z]{2,})(?=[0-9A-Z])")  # of a domain's end that more is glued to


def _emails(text: str, _region: str | None) -> Iterator[Span]:
    """Addresses whose domain ends as domains do: ``icon@2x.png`` is a file."""
    for found in _EMAIL.finditer(text) if "@" in text else ():
        domain = found["domain"]
        if not _suffixes().publicsuffix(domain) and (cut := _FIRST_WORD.match(domain)):
            domain = cut[0]
        while "." in domain and not _suffixes().publicsuffix(domain):
            domain = domain.rpartition(".")[0]  # the next sentence may begin without a space
        if "." in domain:
            yield found.start(), found.start("domain") + len(domain)


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False)


# Letters may be glued to it on either side: its length and its check digits are those of its country
_ACCOUNT = re.compile(r"(?<![0-9])(?=(?P<number>[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9A-Za-z]){11,30}))")
_SHORTEST_ACCOUNT = 15  # Norway's: https://www.swift.com/resource/iban-registry-pdf


def _accounts(text: str, _region: str | None) -> Iterator[Span]:
    """IBANs as their country writes them, with the right check digits. What follows one may look like more of it."""
    done = 0
    for found in _ACCOUNT.finditer(text):
        start = found.start()
        if start < done:
            continue
        for end in range(found.end("number"), start + _SHORTEST_ACCOUNT - 1, -1):
            is_end = text[end - 1] not in " -" and not text[end : end + 1].isdecimal()
            if is_end and _is_account(text[start:end]):
                yield start, end
                done = end
                break


def _is_account(number: str) -> bool:
    from stdnum import iban

    return sum(map(str.isdecimal, number)) >= FEWEST_DIGITS and iban.is_valid(number, check_country=False)


_CARD = re.compile(
    # neither a part of something longer; a word may be glued to it, but no code of letters and digits
    r"(?<![0-9])(?<![0-9][.-])(?<![0-9][A-Za-z])(?<![0-9][A-Za-z]{2})"
    r"(?:[0-9]{14,19}"
    r"|[0-9]{4}(?P<four>[ -])[0-9]{4}(?P=four)[0-9]{4}(?P=four)[0-9]{4}(?:(?P=four)[0-9]{3})?"
    r"|[0-9]{4}(?P<six>[ -])[0-9]{6}(?P=six)[0-9]{4,5})"
    r"(?![.-]?[0-9])(?![A-Za-z]{1,2}[0-9])"
)
# https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN), those in use
_BRANDS = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}(?:\d{3})?"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{10,15}"  # Maestro
)


def _cards(text: str, _region: str | None) -> Iterator[Span]:
    """Numbers that a payment card could have, with the right check digit."""
    for found in _CARD.finditer(text):
        number = found[0].replace(" ", "").replace("-", "")
        if _BRANDS.fullmatch(number) and _has_check_digit(number):
            yield found.span()


def _has_check_digit(number: str) -> bool:
    from stdnum import luhn

    return luhn.is_valid(number)


_ENOUGH_DIGITS = re.compile(rf"\d(?:[^\dA-Za-z]{{0,4}}\d){{{FEWEST_DIGITS - 1}}}")
_OTHER_NUMBER = re.compile(
    r"(?<!\d)\d{1,2}(?P<dmy>[./ -])\d{1,2}(?P=dmy)(?:19|20)\d\d(?!\d)"  # dates
    r"|(?<!\d)(?:19|20)\d\d(?P<ymd>[./ -])\d{1,2}(?P=ymd)\d{1,2}(?!\d)"
    r"|^\+?\d+[.,]\d+$"  # a decimal
    r"|^\d{1,3}(?:\.\d{1,3}){3}$"  # a network address, or a version
)
_LONGER_BEFORE = re.compile(r"[0-9][-.:+]?$|[0-9A-Za-z][-_]$")
_LONGER_AFTER = re.compile(r"[-.:]?[0-9]|,[0-9]{1,2}(?![0-9])|-[0-9A-Fa-f]{4}-")  # the last one: of a UUID
# What a text says of a number before it, in English and German; assumed to be most of what is written there
_PHONE_WORD = re.compile(
    r"(?:tel|telefon\w*|t[eé]l[eé]phone|telefono|teléfono|phone|fon|mobile?|mobilfunk\w*|mobil(?:nr|nummer)|handy\w*"
    r"|cell|call|fax|sms|whatsapp|anruf\w*|rufnummer|durchwahl)\.?",
    re.IGNORECASE,
)
_OTHER_WORD = re.compile(
    r"order|invoice|ticket|tracking|reference|serial|article|item|contract|account|booking|isbn|ean|imei|ref\.?"
    r"|bestellung|rechnung|auftrag|sendung|artikel|vertrag|vorgang|konto|aktenzeichen|seriennummer"
    r"|(?:order|bestell|rechnungs|auftrags|sendungs|artikel|vertrags|vorgangs|kunden|konto|ticket|referenz|buchungs)-?"
    r"(?:nr\.?|nummer)",
    re.IGNORECASE,
)
_WORDS_BEFORE = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*\.?")
_SAID_WITHIN = 3  # words before the number, assumed: "Tel. ist jetzt", "order number is"
_GLUED_BEFORE = re.compile(r"(?<![0-9A-Za-z])(?P<word>[A-Za-z]+)(?=\(?[0-9])")
_GLUED_AFTER = re.compile(r"(?<=[0-9])[A-Za-z]{3,}+(?![-_0-9])")  # a word; fewer letters may belong to the number


def _phones(text: str, region: str | None) -> Iterator[Span]:
    """Numbers that exist, of any country after a ``+`` and of ``region`` as they are written there."""
    if (region is None and "+" not in text) or not _ENOUGH_DIGITS.search(text):
        return
    from phonenumbers import PhoneNumberMatcher

    done = 0
    for found in PhoneNumberMatcher(_apart(text), region):
        start, end, number = found.start, found.end, found.raw_string
        said = _said_before(text[max(done, start - 60) : start])
        before = text[max(done, start - 2) : start]
        is_named = said and before[:1].isalpha()  # Tel-030901820
        longer = (_LONGER_BEFORE.search(before) and not is_named) or _LONGER_AFTER.match(text, end)
        if not longer and _ENOUGH_DIGITS.search(number) and _is_phone(number, region, said):
            yield start, end
            done = end


def _apart(text: str) -> str:
    """:return: the text, as long as it was, with a space between numbers and the words that are glued to them."""

    def before(found: re.Match[str]) -> str:
        return f"{found[0][:-1]} " if _PHONE_WORD.fullmatch(found["word"]) else found[0]

    return _GLUED_AFTER.sub(lambda found: f" {found[0][1:]}", _GLUED_BEFORE.sub(before, text))


def _said_before(text: str) -> bool | None:
    """:return: whether the last words before a number say that it is a phone's; None: they say nothing."""
    words = _WORDS_BEFORE.findall(re.split(r"[0-9<]", text)[-1])
    for word in reversed(words[-_SAID_WITHIN:]):
        if _PHONE_WORD.fullmatch(word):
            return True
        if _OTHER_WORD.fullmatch(word):
            return False
    return None


def _is_phone(number: str, region: str | None, said: bool | None) -> bool:
    """
    :param said: as ``_said_before``.
    :return: whether the text says so, or else it begins as phone numbers do, or has its digits in the groups of its
        country's.
    """
    if _OTHER_NUMBER.search(number):
        return False
    begins = number.lstrip("([")
    if begins[0] == "+":
        return True
    if said is not None or begins[0] == "0":
        return said is not False
    from phonenumbers import Leniency, PhoneNumberMatcher

    grouped = PhoneNumberMatcher(number, region, leniency=Leniency.EXACT_GROUPING)
    return not number.isdecimal() and grouped.has_next()


# The order counts: an account number may hold what would pass for a card number, and that what would pass for a phone's
PLACEHOLDERS = {
    "e-mail address": "<EMAIL>",
    "account number": "<ACCOUNT>",
    "card number": "<CARD>",
    "phone number": "<PHONE>",
}
_SEARCHES: dict[str, Search] = dict(zip(PLACEHOLDERS, (_emails, _accounts, _cards, _phones), strict=True))
