r"""Finding the final answer in what a model wrote: one rule for all rewards, which then read it in their own types.

1. **Where.** The last `<answer>…</answer>`; in it (or without it) the last `\boxed{…}`, together with adjacent boxes, which are
   parts of one answer; or the `answer` (`count`, `value`, …) of a JSON object. Without such a mark, what follows the last "the
   answer is", "Answer:", "答案：" and the like, or the last sentence that begins with "Therefore", "So" or "Thus"; otherwise the
   whole text.
2. **Markup** is not part of it: bold, code, headings, `$…$`, `\text{…}`, special tokens, full-width forms.
3. **Reasons** are not part of it: "because …", "since it …", "因为…", "I hope it is correct."
4. **Denials state nothing.** A clause with a negation ("not B", "B is wrong", "it isn't 5", "不是") states no answer, and an answer
   that one clause states and another denies does not count.
5. **Open statements state nothing**: alternatives ("A or B", "either …"), ranges and bounds where a value is asked for, "maybe",
   a question mark. Several different answers do not count as one.

Time is bounded and linear in the text's length, and nothing raises.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

from rewards.reading.text import boxed_answers, last_boxed_list, tail
from rewards.reading.unicode import plain_characters

_TAG = re.compile(r"</?answer>", re.IGNORECASE)
_FENCE = re.compile(r"```[A-Za-z]{0,12}[ \t]{0,9}\n?(.*?)```", re.DOTALL)
_JSON_NAMES = (
    "answer",
    "final_answer",
    "choice",
    "option",
    "count",
    "number",
    "total",
    "value",
    "result",
    "text",
)

_SPECIAL_TOKEN = re.compile(
    r"<\|[A-Za-z_]{1,40}\|>|</?(?:b|strong|i|em|u|p|br|span|answer|final)\s?/?>", re.IGNORECASE
)
_TEXT_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|bm|boldsymbol|mbox|fbox|operatorname)\s?\{([^{}]{0,400})\}"
)
_SPACE_COMMAND = re.compile(r"\\[,;:! ]|~|\\quad|\\qquad|\\displaystyle")
_MATH_MARK = re.compile(r"\\[()\[\]]")
_EMPHASIS = re.compile(r"\*\*|__|`+|^\s{0,3}#{1,6}\s|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", re.MULTILINE)

_LEAD = re.compile(
    r"(?:\b(?:the|my|our)\s{1,3})?(?:\b(?:final|correct|right|best|true|only)\s{1,3}){0,2}"
    r"\b(?:answer|ans|option|choice|letter|solution|result|conclusion)"
    r"(?:\s{1,3}(?:choice|option|letter|here|to\s(?:the|this|your)\squestion)){0,2}"
    r"(?:\s{0,3}(?:is|was|would\sbe|should\sbe|must\sbe|will\sbe|[:=]|-(?=\s)))+\s{0,3}(?:(?:option|choice)\b\s{0,3})?"
    r"|(?:最终|正确|最后)?的?(?:答案|结果|结论)\s?(?:应该|应|就|选项)?\s?(?:是|为|选择?|[:=])*\s{0,3}"
    r"|(?<![不勿非可])(?:故|应|因此|所以|正确)?选(?:择|项)?(?:是|为|[:=])?\s{0,3}(?=[(\[]?[A-Z]\b|[(\[]?[A-Z][^A-Za-z])",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"(?:(?<=[.!?])\s+|\n\s*)(?:so|thus|hence|therefore|consequently|overall|in\s(?:conclusion|summary)|所以|因此|综上)(?:,\s?|\s+|(?<=[\u3400-\u9fff]))",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?<=\S)[\s,(]{1,3}(?:because|since\s(?:it|the|there|they|this|we)\b|as\s(?:it|there|they|we)\b|which\s(?:is|are)\b)"
    r"(?:(?![.!?]\s|\n|,\s?(?:so|thus|hence|therefore)\b).){0,2000}"
    r"|(?<=\S),?\s?(?:因为|由于)(?:(?!\n|[.;]|,\s?(?:所以|因此|故)).){0,2000}",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r"\bI\s(?:do\s)?hope\s(?:it|this|that)\s(?:is|was|helps?|answers?)[^.!?\n]{0,60}[.!?]?|\b(?:please\s)?let\sme\sknow\sif\b[^.!?\n]{0,80}[.!?]?"
    r"|\b(?:do\syou\shave|is\sthere)\sany(?:thing)?\s(?:other\squestions?|else)\b[^.!?\n]{0,60}\?",
    re.IGNORECASE,
)

# "B, not A" has two clauses, "it is not A" one.
_NO_VERB_BEFORE = "".join(
    rf"(?<!\b{verb})"
    for verb in (
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "can",
        "could",
        "should",
        "would",
        "will",
        "has",
        "have",
        "must",
    )
)
_CLAUSE_END = re.compile(
    r"(?<=[,;.!?])(?!(?<=\b[Nn]o\.)\s[0-9])\s+|\n+|(?<=[,;.!?])(?=[\u3400-\u9fff])"
    rf"|{_NO_VERB_BEFORE}\s+(?=not\b)|\s+(?=(?:but|rather\sthan|instead\sof|except|unlike)\b)"
    r"|\s*(?=\((?:not|rather\sthan|instead\sof|unlike)\b)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|except|excluding|unlike|rather\sthan|instead\sof|wrong|incorrect\w{0,2}|false|impossible|no|"
    r"(?:rul|eliminat|exclud|reject)\w{0,5}|anything\sbut|all\sbut)\b|n't\b|\b(?:isnt|arent|cant|doesnt)\b|\\(?:neg|lnot|not|ne|neq|cancel)(?![A-Za-z])|[≠¬✗✘]"
    r"|不|非(?!常)|没|错|排除|除了",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:or(?!\s(?:more|less|fewer|greater|higher|lower|above|below|so)\b)|either|maybe|perhaps|possibly|might|may\sbe|could\sbe|could|guess|unsure|uncertain|between|versus|vs)\b|\?|\\(?:vee|lor)(?![A-Za-z])"
    r"|或|可能|也许|大概是?|要么|还是|吗",
    re.IGNORECASE,
)


_WORDS_BEFORE = re.compile(r"(?:[^\s,.;:!?()\[\]]+[ \t(\[]{0,3}){0,4}\Z")
_DENIED_AFTER = re.compile(
    r"[\s)\]]{0,3}(?:is|was|are)?\s?(?:not|n't|wrong|incorrect|false)\b|\s?(?:不对|是错)", re.IGNORECASE
)
_OPEN_BEHIND = re.compile(r"[\s)\]}]{0,3}(?:\?|,?\s?or\b|或)", re.IGNORECASE)

Standing = Literal["stated", "denied", "open"]


class Clause(NamedTuple):
    """A clause of an answer: its text, and whether it denies something or leaves it open."""

    text: str
    denied: bool
    doubtful: bool


def find_answer(completion: object) -> str:
    """The answer in a completion, without markup, leads and reasons (rules 1 to 3); empty if there is none."""
    return _without_lead(_without_reasons(without_markup(_answered(completion))), conclusions=True)[0]


def find_formula(completion: object) -> tuple[str, bool]:
    r"""`find_answer` for mathematics, and whether a lead ("the answer is") preceded it. Only paired emphasis, headings and special
    tokens are removed; other markup has a meaning there: `2**3`, `\text{ cm}`, `$…$`."""
    text = _HEADING.sub("", without_emphasis(_SPECIAL_TOKEN.sub(" ", _answered(completion))))
    return _without_lead(_without_reasons(text), conclusions=False)


def _answered(completion: object) -> str:
    text = _marked(plain_characters(tail(completion)).strip())
    value = _json_value(text)
    return text if value is None else value


def _without_reasons(text: str) -> str:
    return _COURTESY.sub("", _REASON.sub("", text))


def _without_lead(text: str, conclusions: bool) -> tuple[str, bool]:
    leads = list(_LEAD.finditer(text)) or (list(_CONCLUSION.finditer(text)) if conclusions else [])
    if not leads or not re.search(r"[\w\[(]", text[leads[-1].end() :]):
        return text.strip(), False  # "B is the answer." has nothing after its lead
    parts = [text[leads[-1].end() :]]
    for lead, after in zip(reversed(leads[:-1]), reversed(leads[1:]), strict=True):
        part = text[lead.end() : after.start()]
        if not 0 < len(part.split()) <= 2:
            break
        parts.insert(0, part)  # "The answer is A. The answer is B." has two parts, like adjacent boxes
    return _unquoted("".join(parts).strip()).strip(), True


def clauses(text: str) -> list[Clause]:
    """The clauses of an answer that `find_answer` found, in order (rules 4 and 5)."""
    parts = [part.strip() for part in _CLAUSE_END.split(text)]
    return [
        Clause(part, bool(_NEGATION.search(part)), bool(_DOUBT.search(part)))
        for part in parts
        if part.strip(" .,;:!()")
    ]


def is_negated(text: str) -> bool:
    """Whether a text contains a negation."""
    return bool(_NEGATION.search(text))


_HEADING = re.compile(r"^\s{0,3}#{1,6}\s", re.MULTILINE)
_PAIRED = re.compile(
    r"(?<![\w*)}\]])(\*\*|__)(?![\s*])([^*\n]{1,2000}?)(?<!\s)\1(?![\w*({\[])"
    r"|(?<![\w*)}\]\s])\*(?![\s*])([^*\n]{1,2000}?)(?<![\s*])\*(?![\w*({\[])|(?<![\w\\})\]_])_(?![\s_{])([^_\n]{1,200}?)(?<!\s)_(?![\w_{])|(?<![\w*`])`([^`\n]{1,2000})`(?!`)"
)


def without_emphasis(text: str) -> str:
    """Remove Markdown's bold, italic and code marks that come in pairs; a `*` between two operands stays."""
    return _PAIRED.sub(lambda match: match[2] or match[3] or match[4] or match[5], text)


def standing(before: str, after: str = "") -> Standing:
    """Whether the words around a value deny it ("not [1, 2, 3, 4]", "(1, 2) is wrong"), leave it open ("maybe at (1, 2)",
    "(1, 2) or", "(1, 2)?") or state it."""
    found = _WORDS_BEFORE.search(before[-100:])
    words, behind = found.group() if found else "", after[:40]
    if _NEGATION.search(words) or _DENIED_AFTER.match(behind):
        return "denied"
    return "open" if _DOUBT.search(words) or _OPEN_BEHIND.match(behind) else "stated"


def marked_answer(completion: object) -> str:
    """The part of a completion that is marked as its answer (rule 1), else all of it, with special tokens replaced by spaces."""
    return _SPECIAL_TOKEN.sub(" ", _marked(plain_characters(tail(completion)).strip()))


def without_markup(text: str) -> str:
    r"""The text without special tokens, code fences, bold, headings, `\text{…}` and a `$…$` around the whole."""
    fence = _FENCE.fullmatch(text.strip())
    text = fence.group(1) if fence else text
    text = _SPECIAL_TOKEN.sub(" ", text)
    for _ in range(3):
        text, count = _TEXT_COMMAND.subn(r"\1", text)
        if not count:
            break
    text = _EMPHASIS.sub("", _MATH_MARK.sub(" ", _SPACE_COMMAND.sub(" ", text))).strip()
    return _unquoted(text)


def _unquoted(text: str) -> str:
    for _ in range(3):
        match = re.fullmatch(r"([$\"'])([^$\"']*)\1\.?", text)
        if not match:
            return text
        text = match.group(2).strip()
    return text


def _marked(text: str) -> str:
    """The part that is marked as the answer, or the whole text."""
    text = _tagged(text)
    boxes = boxed_answers(text)
    if boxes:
        content = ", ".join(dict.fromkeys(box.strip() for box in last_boxed_list(text, side_by_side=True)))
        denied = re.search(
            r"(?:\bnot|n't|\bnever|不是)\W{0,4}\Z", text[: boxes[-1].start][-40:], re.IGNORECASE
        )
        also = re.match(
            r"\W{0,4}(?:or\b|and\s{1,3}(?=[-$\\(]{0,2}(?:[0-9]|[A-Z]\b)))[^.\n]{0,80}",
            text[boxes[-1].end :],
            re.IGNORECASE,
        )
        return ("not " if denied else "") + content + (also.group() if also else "")
    return text


def _tagged(text: str) -> str:
    """Content of the last `<answer>…</answer>`, or the whole text."""
    start = None
    content = text
    for tag in _TAG.finditer(text):
        if not tag.group().startswith("</"):
            start = tag.end()
        elif start is not None:
            content, start = text[start : tag.start()].strip(), None
    return content


def _json_value(text: str) -> str | None:
    """If the whole text is a JSON object, its string or number under one of the usual names; else None."""
    fence = _FENCE.fullmatch(text)
    text = (fence.group(1) if fence else text).strip()
    if not (text.startswith("{") and text.endswith("}") and '"' in text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply to be an answer
        return None
    found = [value[name] for name in _JSON_NAMES if name in value]
    if len(found) == 1 and isinstance(found[0], str | int | float) and not isinstance(found[0], bool):
        return str(found[0])
    return None
