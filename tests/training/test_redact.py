"""What of a text is personal data, and what only looks like it."""

import re
import time

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.redact import PLACEHOLDERS, may_hold, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail john.doe+news@mail.example.co.uk.Thanks", "Mail <EMAIL>.Thanks"),
        ("O'Brien <o'brien@example.ie>, and 'jo@müller.de'!", "O'Brien <<EMAIL>>, and '<EMAIL>'!"),
        ("联系我jo@example.com谢谢", "联系我<EMAIL>谢谢"),
        ("JO@163.COM, x_y@a-b.museum", "<EMAIL>, <EMAIL>"),
        ("pay DE89 3704 0044 0532 0130 00 now", "pay <ACCOUNT> now"),
        ("de89370400440532013000でした", "<ACCOUNT>でした"),
        ("AB12 cdef GB82WEST12345698765432, NO9386011117947", "AB12 cdef <ACCOUNT>, <ACCOUNT>"),
        ("MT84 MALT 0110 0001 2345 MTLC AST0 01S and", "<ACCOUNT> and"),
        ("4111 1111 1111 1111 12/25 123", "<CARD> 12/25 123"),
        ("4111-1111-1111-1111, 378282246310005; 3782 822463 10005", "<CARD>, <CARD>; <CARD>"),
        ("card:5555555555554444.", "card:<CARD>."),
        ("+49 30 901820, tel:+1-212-736-5000 ext. 5, (+44) 7911 123456", "<PHONE>, tel:<PHONE>, <PHONE>"),
        ("＋81 3 1234 5678 or +966 ٥٠ ١٢٣ ٤٥٦٧", "<PHONE> or <PHONE>"),
        ("jo@example.com, +4930901820", "<EMAIL>, <PHONE>"),
    ],
)
def test_personal_data_is_taken_out_wherever_it_stands(text, expected):
    assert redacted(text, None)[0] == expected
    assert redacted(expected, None) == (expected, ())


@pytest.mark.parametrize(
    ("region", "text", "expected"),
    [
        ("DE", "Tel.030 901820, (030) 90 18 20, 0170/1234567", "Tel.<PHONE>, <PHONE>, <PHONE>"),
        ("US", "(212) 736-5000 or 212.736.5000", "<PHONE> or <PHONE>"),
        ("FR", "06-12-34-56-78 / 01 42 34 56 78", "<PHONE> / <PHONE>"),
        ("GB", "020 7946 0958 and 07911123456", "<PHONE> and <PHONE>"),
        ("ES", "612 34 56 78", "<PHONE>"),
        ("IN", "98765 43210", "<PHONE>"),
        ("JP", "０３－１２３４－５６７８", "<PHONE>"),
        ("DE", "abroad: +1 212 736 5000", "abroad: <PHONE>"),
    ],
)
def test_phone_numbers_as_a_country_writes_them_are_found_when_it_is_named(region, text, expected):
    assert redacted(text, region) == (expected, ("phone number",))
    if "+" not in text:
        assert redacted(text, None) == (text, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("€ 5  an +49\u00a030\u202f901820,\u2009danke", "€ 5  an <PHONE>,\u2009danke"),
        ("DE89\u00a03704\u00a00044\u202f0532\u00a00130\u00a000", "<ACCOUNT>"),
        ("4111\u20091111  1111\u00a01111", "<CARD>"),
        ("+49  30  901820, DE89  3704 0044 0532 0130 00", "<PHONE>, <ACCOUNT>"),
        ("ｊｏ＠ｅｘａｍｐｌｅ．ｏｒｇ，　＋４９　３０　９０１８２０", "<EMAIL>，　<PHONE>"),
        ("ＤＥ８９３７０４００４４０５３２０１３０００ ４１１１１１１１１１１１１１１１", "<ACCOUNT> <CARD>"),
        ("٤١١١ ١١١١ ١١١١ ١١١١", "<CARD>"),
        ("jo\u200b@exa\u00admple\ufeff.org and +49 30 90\u200b18\u206020", "<EMAIL> and <PHONE>"),
        ("4111\u20111111\u20111111\u20111111, +49–30–901820", "<CARD>, <PHONE>"),
        ("jo@mu\u0308ller.de", "<EMAIL>"),
        ("ﬁne \u202e½ ² \u200d  Ａ jo@example.org \u200b²", "ﬁne \u202e½ ² \u200d  Ａ <EMAIL> \u200b²"),
    ],
)
def test_width_spaces_and_characters_that_nobody_sees_hide_nothing_and_stay_elsewhere(text, expected):
    assert redacted(text, None)[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tel0301234567, Tel-030901820, fon:030901820", "tel<PHONE>, Tel-<PHONE>, fon:<PHONE>"),
        ("tel+4930901820bitte", "tel<PHONE>bitte"),
        ("unter 01701234567erreichbar", "unter <PHONE>erreichbar"),
        ("meineIBANDE89370400440532013000bitte", "meineIBAN<ACCOUNT>bitte"),
        ("Karte4111111111111111gilt", "Karte<CARD>gilt"),
        ("jo@example.orgUnd, li@example.org2026", "<EMAIL>Und, <EMAIL>2026"),
    ],
)
def test_words_that_are_glued_to_it_hide_nothing(text, expected):
    assert redacted(text, "DE")[0] == expected


@pytest.mark.parametrize(
    ("region", "text", "expected"),
    [
        ("US", "call me at 2125551234", "call me at <PHONE>"),
        ("US", "phone number is 2127365000", "phone number is <PHONE>"),
        ("US", "about my order, call 212-736-5000", "about my order, call <PHONE>"),
        ("US", "call about order 212-736-5000", "call about order 212-736-5000"),
        ("US", "iPhone 2127365000", "iPhone 2127365000"),
        ("DE", "Bestellung 0301234567 vom 3.5.", "Bestellung 0301234567 vom 3.5."),
        ("DE", "Kunden-Nr.: 0301 234567, Tel.: 0301 234567", "Kunden-Nr.: 0301 234567, Tel.: <PHONE>"),
        ("DE", "Rechnungsnummer lautet 0170/1234567", "Rechnungsnummer lautet 0170/1234567"),
        ("DE", "Bestellung per +49 30 901820", "Bestellung per <PHONE>"),
        ("DE", "4711 123456 und 5301234567", "4711 123456 und 5301234567"),
    ],
)
def test_a_word_before_it_says_whether_a_number_is_a_phone_s(region, text, expected):
    assert redacted(text, region)[0] == expected


HARMLESS = [
    *("2026-11-21", "21.11.2026", "11/21/2026 08:15", "2026-11-21T08:15:00.123456Z", "20261121081500", "07 03 2009"),
    *("04.08.2007-27.04.2015", "1642-1649", "1700000000", "1700000000000", "08:15:00.123456"),
    *("1,234,567.89", "€ 1.234.567,89", "+4317576.39", "+1,234,567", "1643610.02 EUR", "-3.14159265358"),
    *("order 2125551234", "#4711000123", "ORD-12345678", "112-1234567-1234567", "2026-0012345", "INV202611123456"),
    *("1.2.3.4", "0.20.16", "react@18.2.0", "node@18.alpine", "10.0.0.12:41724", "169.208.135.241"),
    *("52.520008, 13.404954", "978-3-16-148410-0", "4006381333931", "35-209900-176148-1", "8944200011112222333"),
    *("bdfde1fd-0772-2103-b71b-5e20f20c2a33", "1+49947113", "arXiv:0704.3116", "+3 points, +100 %", "82550-9471"),
    *("icon@2x.png", "@jo.doe thanks", "meet @ 8.30", "a@b", "jo@localhost", "4111111111111112", "1111 1111 1111 1111"),
    *("GB82 WEST 1234 5698 7654 33", "AB12 3456 7890 1234 5678", "EN60 2004 and more words behind it"),
    *("a4111111111111111f0", "0f4111111111111111", "4111111111111111a9", "SN0123456789X1", "DE893704004405320130001"),
    "08257210-abfb-9838-7ed7-3e170a73e69b",
]


@pytest.mark.parametrize("region", [None, "US", "DE", "GB", "FR", "AU"])
def test_dates_prices_orders_and_versions_are_no_personal_data(region):
    texts = [f"it says {text} there" for text in HARMLESS]
    assert [text for text in texts if redacted(text, region)[1]] == []


PIECES = st.sampled_from(
    [
        *("jo@example.com", "+49 30 901820", "4111 1111 1111 1111", "DE89370400440532013000", "030 901820"),
        *(" ", ", ", "(", ")", "-", ".", "x", "12", "+", "@", "é", "谢", "7", "GB82 ", "０３"),
        *("  ", "\u00a0", "\u200b", "＠", "４", "–", "\u0308", "tel", "Bestellung "),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=8).map("".join))


@settings(deadline=None)  # the first number of a country loads what is known of it
@given(TEXTS, st.sampled_from([None, "DE", "US"]))
def test_the_columns_are_looked_through_without_missing_a_text(text, region):
    _text, kinds = redacted(text, region)
    if kinds and not any(0xD800 <= ord(character) < 0xE000 for character in text):
        [found] = may_hold(pyarrow.array([text]), region).to_pylist()
        assert found


@settings(deadline=None)  # the first number of a country loads what is known of it
@given(TEXTS)
def test_what_is_no_personal_data_stays_letter_by_letter(text):
    clean, _kinds = redacted(text, "DE")
    kept = re.split("|".join(PLACEHOLDERS.values()), clean)
    at = 0
    for piece in kept:
        at = text.index(piece, at) + len(piece)


PLAIN = ["a@", "a.", "DE89 ", "1 ", "+1 ", "0@a.b-", "4111 ", "(0", "x" * 70 + "@y."]
GLUED = [
    "DE89",
    "x@" + "a." * 9_000 + "zzzz",
    "tel0",
    "1a",
    "1" + "a" * 9_998,
    "a@b.c1",
    "\u00a01",
    "\u200b4111",
    "Tel ",
]


@pytest.mark.parametrize("piece", [*PLAIN, *GLUED])
def test_a_hostile_text_costs_no_more_than_a_long_one(piece):
    text = piece * (20_000 // len(piece))
    started = time.process_time()
    redacted(text, "DE")
    assert time.process_time() - started < 10
