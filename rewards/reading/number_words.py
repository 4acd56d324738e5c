"""Whole numbers written as words, read strictly: English by text2num, Chinese by spelling the value back and comparing.

A text that is not exactly one number (`two three`, `三百五`, `十几`, `twenty eleven`) is never read in part.
"""

from __future__ import annotations

import re

from text_to_num import text2num

_ONES = "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_TEENS = "thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_SCALES = "hundred|thousand|million|billion"
_WORD = rf"(?:{_ONES}|{_TEENS}|{_TENS}|{_SCALES})"
_AND = r"(?:(?<=hundred)|(?<=thousand)|(?<=million))\s{1,3}and\s{1,3}"
_ENGLISH = re.compile(
    rf"(?<![\w-])(?:an?\s{{1,3}}(?={_SCALES})|(?!{_SCALES})){_WORD}(?:(?:{_AND}|\s{{1,3}}|-){_WORD}){{0,20}}(?!-?\w)",
    re.IGNORECASE | re.ASCII,
)
_DOZEN = re.compile(r"\ban?(?=\s{1,3}dozen\b)", re.IGNORECASE)

_DIGITS = "零一二三四五六七八九"
_CHINESE = re.compile(
    # Not in 第三 (third), 唯一 (only), 三分之一 (a third), 十几 (ten and some), 一共 (in all), 一些 (some), …
    "(?<![第唯统之几数])[零〇一二两三四五六七八九十百千万]{1,20}(?![零〇一二两三四五六七八九十百千万分几余多来半倍共些样起般定直下边旦切点])"
)


def number_word(text: str) -> int | None:
    """The number >= 0 that the whole text spells (`forty-two`, `a hundred and five`, `二十三`), else None."""
    text = text.strip()
    if len(text) > 200:
        return None
    if _CHINESE.fullmatch(text):
        return _chinese(text)
    if not _ENGLISH.fullmatch(text):
        return None
    words = re.sub(r"\Aan?\s", "one ", text, flags=re.IGNORECASE)
    try:
        return int(text2num(words.lower(), "en"))
    except ValueError:  # words that are not one number
        return None


def with_digits(text: str) -> str:
    """The text with spelled-out numbers replaced by digits. Adjacent number words that do not form one number are replaced one
    by one."""
    text = _DOZEN.sub("1", text)
    text = _ENGLISH.sub(_english_digits, text)
    return _CHINESE.sub(_chinese_digits, text)


def _english_digits(match: re.Match[str]) -> str:
    value = number_word(match.group())
    if value is not None:
        return str(value)
    return re.sub(_WORD, lambda word: str(number_word(word.group())), match.group(), flags=re.IGNORECASE)


def _chinese_digits(match: re.Match[str]) -> str:
    value = _chinese(match.group())
    return match.group() if value is None else str(value)


def _chinese(text: str) -> int | None:
    """Value of a Chinese numeral below 10^8 in its standard spelling (两 for 二, 〇 for 零 and 一十 for 十 are allowed)."""
    text = re.sub("^一十", "十", text.replace("两", "二").replace("〇", "零"))
    total = section = digit = 0
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS.index(char)
        elif char == "万":
            total, section, digit = (section + digit) * 10_000, 0, 0
        else:
            section += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char]
            digit = 0
    value = total + section + digit
    return value if _spelled(value) == text else None


def _spelled(value: int) -> str:
    """Standard Chinese numeral of 0 <= value < 10^8."""
    if value == 0:
        return "零"
    high, low = divmod(value, 10_000)
    text = _section(high) + "万" if high else ""
    if low:
        text += ("零" if high and low < 1000 else "") + _section(low)
    return re.sub("^一十", "十", text)


def _section(value: int) -> str:
    text, gap = "", False
    for scale, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // scale % 10
        if digit:
            text += ("零" if gap and text else "") + _DIGITS[digit] + unit
        gap = not digit
    return text
