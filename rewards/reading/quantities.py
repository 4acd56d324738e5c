r"""The one number that an answer states. Numbers that are part of something else do not count.

`stated_number` reads what `rewards.reading.final_answer` found: `3`, `three cats`, `about 12.5 cm`, `2 + 1 = 3`, `5 cats, 8 animals in
total`. It refuses bounds (`more than 3`, `3+`), ranges and alternatives (`3-4`, `3 or 4`), fractions and ordinals of words
(`three quarters`, `3rd`), parts (`one of the three`), rates (`3 each`), labels (`image 3`), and several different numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from rewards.reading.final_answer import clauses
from rewards.reading.number_words import with_digits
from rewards.reading.text import PlainNumber, decimal_comma, plain_number

MAX_NUMBERS = 100
"""A clause with more numbers than this states no number."""

_SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "k": 10**3, "m": 10**6, "mn": 10**6, "bn": 10**9, "b": 10**9, "万": 10**4, "亿": 10**8, "百万": 10**6, "百": 100, "千": 1000,
}  # fmt: skip
_SCALE = re.compile(
    r"\s{0,3}(dozen|hundred|thousand|million|billion|trillion|[mb]n|百万|[万亿百千])s?(?![a-z])",
    re.IGNORECASE,
)
# Written directly after a number: a scale (3M, 5k, 2bn) or a unit (12cm, 5km/h).
_SUFFIX = re.compile(
    r"([-+]?[$€£¥]?[0-9][0-9.,]*)(?:([kKM]|[bm]n|B)|(?:[kcmdnµμ]?m|[kmµμ]?g|m?[sl]|m?L|[kMGT]?B|h|hrs?|min|ft|in|lbs?|oz|px|°[CF]?)(?:\^?\{?[23]\}?|[²³])?(?:/[a-z]{1,3})?)\Z"
)

_TOKEN = re.compile(
    r"[A-Za-z0-9_.,:/^%+\-–—$€£¥#~=<>≤≥≈×*\\°²³{}−]+"
)  # a number with whatever directly follows it
_GROUPED = re.compile(r"(?<![0-9.,]\s)(?<![0-9.,])[0-9]{1,3}(?:\s[0-9]{3}){1,5}(?:\.[0-9]{1,9})?(?!\s?[0-9])")

_BOUND_BEFORE = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|higher|lower|larger|smaller|other|later|earlier)\s(?:or\s\w{1,9}\s)?than|at\s(?:least|most)|over|under|above|below|beyond|"
    r"exceed\w{0,3}|up\sto|before|after|until|out\sof|close\sto|nearer|hardly|barely|not\squite|plus|additional|another|no\s(?:more|less|fewer)\sthan|nearly|almost|minimum\sof|maximum\sof|half|twice|double)\s(?:an?\s|of\s)?|[<>≤≥!≠±√]\s?=?\s?"
    r"|(?:超过|至少|至多|最多|最少|不到|多于|少于|大于|小于|近|将近|不足|超)\s?)\Z",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    r"\s{0,2}(?:\+(?!\s?[0-9])|(?:\w{1,12}\s)?(?:or|and)\s(?:more|less|fewer|greater|higher|lower|above|below|over|under)\b|plus\b(?!\s?[0-9])|[个只名位条张辆人]?(?:多|几|半|倍|成|以上|以下)|\s?[<>≤≥]|\\(?:pm|le|ge|lt|gt))",
    re.IGNORECASE,
)
_LABEL_BEFORE = re.compile(
    r"(?:\b(?:images?|pictures?|photos?|figures?|fig\.?|pages?|options?|questions?|steps?|tables?|rows?|columns?|chapters?|rooms?|items?|levels?|"
    r"frames?|slides?|parts?|lines?|sections?|gates?|buses|bus|route|player|shirt|no\.|number|nr\.)\s{0,2}|第\s?)\Z",
    re.IGNORECASE,
)
_YEAR_BEFORE = re.compile(r"\b(?:in|during|since|by|for|of|from|year)\s(?:the\syear\s)?\Z", re.IGNORECASE)
_PART_AFTER = re.compile(
    r"\s{0,3}(?:(?:out\s)?of\s(?:the\s|these\s|those\s|its\s|all\s)?[0-9]"
    r"|(?:-\s?)?(?:quarter|third|half|halve|fifth|sixth|seventh|eighth|ninth|tenth|fourth|hundredth)s?\b|and\sa\s(?:half|quarter|third)|分之|\\frac)",
    re.IGNORECASE,
)
_RATE_AFTER = re.compile(
    r"\s{0,3}(?:\w{1,12}\s)?(?:each|apiece|per\b|every\b|times\b|more\b|less\b|fewer\b|extra\b|too\smany\b)",
    re.IGNORECASE,
)
_PERCENT_AFTER = re.compile(r"\s{0,3}(?:percent|per\scent|percentage|pct)\b", re.IGNORECASE)
_TOTAL_BEFORE = re.compile(
    r"(?:\b(?:total(?:\s(?:number|count)\s?(?:of\s\w{1,15})?)?|sum|altogether|overall|in\s(?:total|all))\s?(?:of|is|are|=|:|,)?\s?(?:there\s(?:are|is)\s)?|(?:总共|一共|总计|合计|共计?)\s?(?:有|是|为)?\s?)\Z",
    re.IGNORECASE,
)
_TOTAL_AFTER = re.compile(
    r"(?:\s{1,3}[A-Za-z]{1,15}){0,3}\s{1,3}(?:in\s(?:total|all)|altogether|total|overall)\b", re.IGNORECASE
)
_POWER = re.compile(
    r"(?<=[0-9])\s?(?:x|×|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?([-+]?[0-9]{1,3})\}?", re.IGNORECASE
)
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s(?=[0-9])|负(?=[0-9])", re.IGNORECASE)
_RESTATED = re.compile(
    r"\A(?:yes|so|thus|hence|therefore|i\.e\.|that\sis|exactly|precisely|namely|it\sis|answer)\b",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"(?<=[0-9a-z])\s{0,2}\(\s?([0-9.,]{1,30})(?:\s[a-z]{1,20})?\s?\)", re.IGNORECASE)


class Number(NamedTuple):
    """A stated number: its exact value (28 for '28 %'), whether a percent sign followed, and if it is a rate ("3 each")."""

    value: Fraction
    percent: bool
    rate: bool


class _Mention(NamedTuple):
    number: Number | None  # None: digits that are part of something else
    total: bool
    year: bool = False  # "in 2010": a year if there is another number


def stated_number(text: str) -> Number | None:
    """The one number that an answer states, or None if it states none or several, or leaves it open."""
    text = _POWER.sub(r"e\1", re.sub(r"\A-\s(?=[0-9.,]+\Z)", "-", text))
    plain = plain_number(text) or decimal_comma(text)
    if plain:
        return Number(plain.value, plain.percent, False)
    text = _NEGATIVE.sub("-", with_digits(text))
    text = _AGAIN.sub(_once, text)
    stated: list[tuple[str, _Mention]] = []
    denied: set[Fraction] = set()
    for clause in clauses(text):
        found = list(_mentions(_right_side(clause.text)))
        if clause.denied:
            denied |= {mention.number.value for mention in found if mention.number}
        elif found and (clause.doubtful or any(mention.number is None for mention in found)):
            return None
        else:
            stated += [(clause.text, mention) for mention in found]
    number = _agreed(stated)
    return number if number and number.value not in denied else None


def _agreed(stated: list[tuple[str, _Mention]]) -> Number | None:
    """The number that all mentions agree on: the only one, the declared total, or one that is restated."""
    stated = [item for item in stated if not item[1].year] or stated
    if not stated:
        return None
    totals = {mention.number for _, mention in stated if mention.total}
    if totals:
        return totals.pop() if len(totals) == 1 else None
    first = stated[0][1].number
    again = all(mention.number == first and _RESTATED.match(text) for text, mention in stated[1:])
    return first if again else None


def _once(match: re.Match[str]) -> str:
    """Merge `three (3)` into one mention; brackets with anything else are kept."""
    before = re.search(r"([0-9][0-9.,]*)\Z", match.string[: match.start()][-40:])
    same = before and (plain := plain_number(before.group(1))) and plain == plain_number(match.group(1))
    return "" if same else match.group()


def _right_side(text: str) -> str:
    """The result of an equation (`2 + 1 = 3`) unless its left side is another number; other texts unchanged."""
    sides = re.split(r"(?<![<>!=≤≥])=(?!=)", text)
    if len(sides) == 1 or not re.search(r"[0-9]", sides[-1]):
        return text
    value, given = _sum(sides[-2]), plain_number(sides[-1].strip())
    return text if value is not None and given is not None and value != given.value else sides[-1]


def _sum(text: str) -> Fraction | None:
    """Value of a sum or a product of plain numbers; None for other texts."""
    parts = re.split(
        r"([-+*×x])", re.sub(r"\s|\\times|\\cdot", lambda m: "" if m.group().isspace() else "*", text)
    )
    signs = set(parts[1::2])
    values = [plain_number(part) for part in parts[::2]]
    if len(parts) > 41 or any(value is None for value in values):
        return None
    numbers = [value.value for value in values if value]
    if signs <= {"+", "-"}:
        return numbers[0] + sum(
            n if sign == "+" else -n for sign, n in zip(parts[1::2], numbers[1:], strict=True)
        )
    if signs <= {"*", "×", "x"}:
        product = Fraction(1)
        for n in numbers:
            product *= n
        return product
    return None


def _mentions(text: str) -> Iterator[_Mention]:
    text = _GROUPED.sub(lambda match: re.sub(r"\s", "", match.group()), text)
    tokens = [match for match in _TOKEN.finditer(text) if re.search("[0-9]", match.group())]
    if len(tokens) > MAX_NUMBERS:
        yield _Mention(None, False)
        return
    for match in tokens:
        before, after = text[: match.start()][-40:], text[match.end() :][:60]
        token = match.group()
        core = token.lstrip("#~≈=:*").rstrip(".,:;!*=") or token
        if re.fullmatch(r"\{[^{}]*\}", core):
            core = core[1:-1]
        if token.endswith("+"):
            core, after = core.rstrip("+"), "+" + after
        core = re.sub(r"\A[x×](?=[0-9])", "", core)
        core = re.sub(r"\A(?:US|CA|AU|NZ|HK)(?=\$)", "", core)
        if _LABEL_BEFORE.search(before):
            continue
        year = bool(re.fullmatch(r"(?:1[5-9]|20)[0-9]{2}", core) and _YEAR_BEFORE.search(before))
        total = bool(_TOTAL_BEFORE.search(before) or _TOTAL_AFTER.match(after))
        yield _Mention(_number(core, before, after), total, year)


def _number(core: str, before: str, after: str) -> Number | None:
    """The number of a token, given the words around it; None if it is part of something else."""
    if _BOUND_BEFORE.search(before) or _BOUND_AFTER.match(after) or _PART_AFTER.match(after):
        return None
    whole = re.fullmatch(r"([0-9]{1,9})/\1", core)  # 3/3: three of three
    scale = Fraction(1)
    plain: PlainNumber | None = plain_number(whole.group(1) if whole else core) or decimal_comma(core)
    if plain is None:
        suffixed = _SUFFIX.fullmatch(core)
        plain = plain_number(suffixed.group(1)) if suffixed else None
        if suffixed and suffixed.group(2):
            scale = Fraction(_SCALES[suffixed.group(2).lower()])
    if plain is None:
        return None
    while word := _SCALE.match(after):
        scale *= _SCALES[word.group(1).lower()]
        after = after[word.end() :]
    if _PART_AFTER.match(after) or _BOUND_AFTER.match(after):
        return None
    percent = plain.percent or bool(_PERCENT_AFTER.match(after))
    return Number(plain.value * scale, percent, bool(_RATE_AFTER.match(after)))
