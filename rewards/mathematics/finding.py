r"""Finding a mathematical answer in a text: `rewards.reading.final_answer`, and what mathematics needs in addition.

1. A marked answer is read as a whole; nothing else is searched.
2. Running text without a mark states its answer in the last sentence that has a value. A sentence that denies, doubts or bounds it
   (`not 5`, `maybe 5`, `at least 5`) states none. Otherwise the answer is what follows the last "is", "are", "=", ":", …, what
   precedes "is the answer", the only formula, or the text from the only number on; and it must be readable as a whole (`12 cm`,
   `42 apples in all`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewards.mathematics.answers import MAX_CHARS, Reading, joined, read
from rewards.mathematics.compare import compare
from rewards.mathematics.values import Sequence as Several
from rewards.mathematics.values import Words
from rewards.reading.final_answer import clauses, find_formula
from rewards.reading.text import boxed_answers, tail
from rewards.reading.unicode import latex_symbols, plain_characters

_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[ap]\.m\.)\s+(?=[^\d\s])|\n+")
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|becomes?|equals?|equal\sto|has|have|had|gets?|gives?|got|finds?|obtains?|yields?|totals?|costs?|weighs?|leaves"
    r"|(?:it|that|this|answer)'s|need|needs|needed|makes?|remain|remains|so|hence|thus|therefore)\b[\s:,]{0,3}|(?<![<>!=:])[=:]\s{0,3}(?!=)|(?<=[\u3400-\u9fff])(?=[-0-9$\\])|[是为有得]",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"\A(?:(?:so|thus|hence|therefore|then|and|finally|altogether|in\s(?:total|all))\b[\s,:]{0,3}){1,3}",
    re.IGNORECASE,
)
_TRAILING = re.compile(r"\s(?:is|are|was|were|will\sbe|would\sbe)\s[^0-9\\$]{1,200}\Z")
_FORMULA = re.compile(r"(?<!\\)\$([^$]{1,1000})\$|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL)
_BOUND = re.compile(
    r"\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|older|younger|longer|shorter|taller|other|rather|earlier|later)\s(?:\w+\s)?than\b"
    r"|\bat\s(?:least|most)\b|\bup\sto\b|\bno\smore\b|\b(?:over|under|above|below|beyond|exceed\w{0,3}|nearly|almost|between|half\sof|twice|double|triple"
    r"|minimum\sof|maximum\sof|from|unless|if|assum\w{1,4}|suppos\w{1,3})\s+[\\$€£]{0,2}[0-9]"
    r"|\b(?:anything|everything|all|nothing)\s(?:but|except)\b|\b(?:but|except|excluding)\s+[\\$]{0,2}[0-9]"
    r"|[0-9]\s?\+(?![\s0-9])|\bor\s(?:more|less|fewer|so)\b|大于|小于|至少|至多|超过|不到",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?[$€£¥]?(?:[0-9][0-9,.:/]*|\\[dt]?frac)")
MAX_SENTENCES = 50


def answer_readings(completion: object) -> tuple[Reading, ...]:
    """The readings of the answer in a completion; empty if there is none that can be read whole."""
    found, led = find_formula(completion)
    text = _without_remarks(found)
    readings = read(text) + _restated(text) + _yes_or_no(text)
    if any(not isinstance(reading.value, Words) for reading in readings) or boxed_answers(tail(completion)):
        return readings
    part = text[: 2 * MAX_CHARS] if led else text[-2 * MAX_CHARS :]
    sentences = [sentence.strip() for sentence in _SENTENCE_END.split(part) if sentence.strip()]
    # After "the answer is" the first sentence with a value has the answer, in running text the last one.
    for at, sentence in enumerate(sentences[:MAX_SENTENCES] if led else sentences[: -MAX_SENTENCES - 1 : -1]):
        later = sentences[at + 1 : at + 2] if led else sentences[len(sentences) - at :]
        if any(_TAKEN_BACK.search(other) for other in later):
            return readings
        stated = tuple(_stated(sentence))
        if _holds_value(sentence) or any(not isinstance(reading.value, Words) for reading in stated):
            return readings + stated
        readings += stated if at == 0 else ()
    return readings


_TAKEN_BACK = re.compile(
    r"\b(?:that|this|it|which|no|wait|actually|sorry|i)\b.{0,40}?(?:\b(?:wrong|incorrect|not|mistaken?|unsure|never)\b|n't\b)|不对|错了",
    re.IGNORECASE,
)


_REASON = re.compile(
    r"\s\((?:since|because|as|where|when|for|from|using|by|see|that(?:\sis|'s)|i\.e|e\.g|namely|which|rounded|to\sthe\snearest)\b[^()\n]{0,300}\)",
    re.IGNORECASE,
)
_REMARK = re.compile(r"(?<=[\w$}])\s\(([A-Za-z]{2,20}(?:\s[A-Za-z]{2,20}){1,15})\)")
_BRACKETED = re.compile(
    r"([^()\n]{1,200}?)\s\(((?:\\approx|approximately|approx\.?|about|roughly|or|i\.e\.,?|=|~)?)\s{0,3}([^()\n]{1,200})\)\.?"
)


def _without_remarks(text: str) -> str:
    """The text without remarks in brackets: reasons, and words that neither deny nor doubt (`42 (six times seven)`)."""
    text = _REASON.sub("", text)
    text = re.sub(
        r"(?<=[0-9])\s\(([A-Za-z]{1,20}(?:\^?[23]|[²³])?)\)\.?\Z", r" \1", text
    )  # `5 (cm)`: the unit in brackets
    return _REMARK.sub(
        lambda match: match[0] if any(c.denied or c.doubtful for c in clauses(match[1])) else "", text
    )


def _restated(text: str) -> tuple[Reading, ...]:
    """`3/4 (75 %)`, the same value again in brackets, as a list of both; `2\\pi (about 6.28)` as a value with a remark."""
    match = _BRACKETED.fullmatch(latex_symbols(text))
    if not match:
        return ()
    value, again = read(match[1]), read(match[3])
    if not value or not again:
        return ()
    remark = match[2] not in ("", "or", "=", "i.e.", "i.e.,")
    return (
        value
        if remark or compare(value[0].value, again[0].value, strict=False) == ()
        else (Reading(joined([value[0].value, again[0].value])),)
    )


_YES_NO = re.compile(
    r"(yes|no)[,.;:!]\s(?!.{0,2000}\b(?:yes|no|maybe)\b).{1,2000}", re.IGNORECASE | re.DOTALL
)


def _yes_or_no(text: str) -> tuple[Reading, ...]:
    """`Yes, it is.`: the first word is the answer."""
    match = _YES_NO.fullmatch(text)
    return (Reading(Words(match[1].lower())),) if match else ()


def truth_readings(text: str) -> tuple[Reading, ...]:
    """The readings of a true answer: all its boxes, the whole text, or the answer found in a complete solution."""
    boxes = boxed_answers(plain_characters(text))
    if len(boxes) > 1 and len({box.content.strip() for box in boxes}) > 1:
        parts = [read(box.content) for box in boxes]
        return (Reading(joined([part[0].value for part in parts])),) if all(parts) else ()
    found = () if boxes else read(text)
    return found or answer_readings(text)


def _holds_value(sentence: str) -> bool:
    return bool(_NUMBER.search(sentence) or _FORMULA.search(sentence))


def _stated(sentence: str) -> Iterator[Reading]:
    """The readings of what a sentence states."""
    if len(sentence) > MAX_CHARS or _BOUND.search(sentence):
        return
    denied = any(clause.denied for clause in clauses(sentence))
    doubtful = any(clause.doubtful for clause in clauses(sentence))
    if doubtful and any(clause.doubtful for clause in clauses(re.sub(r"\bor\b", ",", sentence))):
        return
    words: list[Reading] = []
    for part in _parts(sentence):
        readings = read(part)
        values = [reading for reading in readings if not isinstance(reading.value, Words)]
        if values and not denied:
            # "3/4, or 75 %" may be one value twice; a different value after "or" is an alternative
            yield from (reading for reading in values if not doubtful or isinstance(reading.value, Several))
            return
        before = sentence.removesuffix(part)  # "There is no solution": the words themselves may be a denial
        if not doubtful and not any(clause.denied for clause in clauses(before)):
            words += readings
    yield from (reading for reading in words if isinstance(reading.value, Words))


def _parts(sentence: str) -> Iterator[str]:
    """Parts of a sentence that could be its answer, the likeliest first."""
    yield _CONNECTIVE.sub("", sentence)
    if _TRAILING.search(sentence):
        yield _CONNECTIVE.sub("", _TRAILING.sub("", sentence))
    for verb in list(_VERB.finditer(sentence))[:-6:-1]:
        part = sentence[verb.end() :]
        if part:
            yield part
    formulas = list(_FORMULA.finditer(sentence))
    if formulas and not _NUMBER.search(_FORMULA.sub("", sentence)):
        yield next(filter(None, formulas[-1].groups()), "")
    numbers = list(_NUMBER.finditer(sentence))
    if len(numbers) == 1 and re.fullmatch(r"[\w\s,'\"-]*", sentence[: numbers[0].start()]):
        yield sentence[numbers[0].start() :]
