"""The language of a text's prose: by its script where that decides, else by py3langid among the languages of the script.

Formulas, code, tags, digits, links, labels of points (AB, x) and quoted passages are left out first. Codes are those of
py3langid (ISO 639-1 where there is one), with close relatives under one name (GROUPS): zh is also wuu and yue.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

GROUPS = {
    "zh": ("wuu", "yue", "lzh", "cmn", "zh-cn", "zh-tw", "zh-hans", "zh-hant"),
    "en": ("pcm",),
    "es": ("ext", "an"),
    "fr": ("wa",),
    "it": ("vec", "lij"),
    "de": ("lb",),
    "no": ("nn", "nb"),
    "hr": ("bs", "sr", "sh"),
    "id": ("ms",),
    "ar": ("arz", "ary"),
    "fa": ("prs",),
    "ht": ("gcf", "gcr"),
}
"""Languages and dialects that short texts cannot be told apart in, under the code that stands for them all."""

_GROUP_OF = {member: code for code, members in GROUPS.items() for member in members}

BY_SCRIPT = {
    "HAN": ("zh",),
    "KANA": ("ja",),
    "HANGUL": ("ko",),
    "THAI": ("th",),
    "LAO": ("lo",),
    "GREEK": ("el",),
    "HEBREW": ("he",),
    "ARMENIAN": ("hy",),
    "GEORGIAN": ("ka",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "GUJARATI": ("gu",),
    "GURMUKHI": ("pa",),
    "ORIYA": ("or",),
    "SINHALA": ("si",),
    "KHMER": ("km",),
    "MYANMAR": ("my",),
    "TIBETAN": ("dz",),
    "ETHIOPIC": ("am",),
    "BENGALI": ("bn", "as"),
    "DEVANAGARI": ("hi", "mr", "ne", "sa", "gom"),
    "ARABIC": ("ar", "fa", "ur", "ps", "ug", "ku"),
    "CYRILLIC": ("ru", "uk", "be", "bg", "mk", "hr", "kk", "ky", "mn", "ba", "tg", "tt", "az", "uz"),
}
"""Languages of each script but the Latin one, which has all the others (and hr, az and uz too)."""

_SCRIPT_NAMES = dict.fromkeys(("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"), "HAN")
_KANA = re.compile(r"[\u3041-\u30fa]")
OTHER_SCRIPT_SHARE = 0.2
"""From this share of a text on, sentences mostly in a non-Latin script decide its language: English hints, names, terms and
code occur in texts of every language. Words of another script cited in a sentence do not count."""
NO_WORDS = 0.4
"""Latin letters whose likeliest language is less probable are taken for formulas where there is another script."""
HAN_WEIGHT = 2
"""Latin letters that one Chinese character counts for."""
KANA_SHARE = 0.1
"""Japanese has at least so many kana among its Han and kana characters; a Chinese text may quote a few."""
MIN_LATIN_LETTERS = 12
"""Fewer letters of prose do not say that a text is in the Latin script rather than that it is mathematics."""

# every part is bounded, so that the time grows with the length of the text
_NOT_PROSE = re.compile(
    r"```[^`]{0,20000}```|`[^`\n]{0,500}`"
    r"|\$\$[^$]{0,2000}\$\$|\$[^$\n]{0,500}\$|\\\[[^\]]{0,2000}\\\]|\\\([^)]{0,500}\\\)"
    r"|\\(?:begin|end)\{[a-z]{1,20}\*?\}(?:\{[^{}]{0,40}\})?|\\(?:text|mathrm|textbf|mbox)\s?(?=\{)|\\[A-Za-z]+"
    r"|<[^<>\n]{0,200}>|https?://\S{1,500}|www\.\S{1,500}|[\d_^{}=+*/|]+|\\"
)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,500}\"|“[^”\n]{1,500}”|「[^」\n]{1,500}」|『[^』\n]{1,500}』|«[^»\n]{1,500}»"
    r"|(?<!\w)'[^'\n]{1,500}'(?!\w)|(?<!\w)‘[^’\n]{1,500}’(?!\w)"
)
_SENTENCE_END = re.compile(r"[\n.?!。]+")
_LABEL = re.compile(
    r"\b(?:[A-Z]{1,4}|[^\W\d_\u3040-\u30ff\u3400-\u9fff]|sin|cos|tan|cot|sec|csc|log|ln|exp|lim|max|min|cm|mm|km|kg)\b"
)


@dataclass(frozen=True)
class Language:
    """What is known of the language of a text.

    code: the language, "" if it can't be told. script: name of its script, "" for a text without prose.
    probability: of the code, 0 to 1; the script alone decides with 1. letters: of prose, in Latin letters.
    """

    code: str
    script: str
    probability: float
    letters: int

    @property
    def shown(self) -> str:
        """As a reason names it."""
        if self.probability == 1:
            return repr(self.code)
        return f"{self.code!r} (probability {self.probability:.2f})" if self.code else f"{self.script} script"

    def named(self, min_confidence: float) -> str:
        """The code if it is at least so probable, else ""."""
        return self.code if self.probability >= min_confidence else ""


def language(text: str) -> Language:
    """The language of a text's prose; of several, the one that is not in Latin script (see OTHER_SCRIPT_SHARE)."""
    prose = _prose(text)
    weights: Counter[str] = Counter()
    for sentence in _SENTENCE_END.split(prose):
        within = _weights(sentence)
        if within:
            weights[max(within, key=within.__getitem__)] += sum(within.values())
    total = sum(weights.values())
    if total == 0:
        return Language("", "", 0.0, 0)
    latin = weights.pop("LATIN", 0)
    if latin > (1 - OTHER_SCRIPT_SHARE) * total:
        found = _by_model(prose, "LATIN", latin)
        weights = weights or _weights(prose)
        for symbols in ("LATIN", "GREEK"):
            del weights[symbols]
        if found.probability >= NO_WORDS or not weights:
            return found
    script = max(weights, key=weights.__getitem__)
    if script == "HAN" and len(_KANA.findall(prose)) >= KANA_SHARE * weights["HAN"] / HAN_WEIGHT:
        script = "KANA"
    if len(BY_SCRIPT.get(script, ())) == 1:
        return Language(BY_SCRIPT[script][0], script, 1.0, total)
    return _by_model(prose, script, total)


def is_allowed(found: Language, codes: Collection[str], min_confidence: float) -> bool:
    """Whether a text may be in one of these languages: by its code if that is sure, else by its script."""
    allowed = {group(code) for code in codes}
    code = found.named(min_confidence)
    if code:
        return code in allowed
    if found.script in ("", "LATIN") and found.letters < MIN_LATIN_LETTERS:
        return True
    return bool(allowed & set(_languages_of(found.script)))


def differ(one: Language, other: Language, min_confidence: float) -> bool:
    """Whether two texts are surely in different languages: by their codes, or else by their scripts."""
    codes = one.named(min_confidence), other.named(min_confidence)
    if all(codes):
        return codes[0] != codes[1]
    enough = min(one.letters, other.letters) >= MIN_LATIN_LETTERS
    return enough and one.script != other.script


def group(code: str) -> str:
    """The code that stands for a language and its relatives."""
    return _GROUP_OF.get(code.lower(), code.lower())


@cache
def known_codes() -> frozenset[str]:
    """All codes that may be asked for, members of groups included."""
    return frozenset({*_model().nb_classes, *GROUPS, *_GROUP_OF} - {"zxx"})


@cache
def _languages_of(script: str) -> tuple[str, ...]:
    if script in BY_SCRIPT:
        return BY_SCRIPT[script]
    if script != "LATIN":
        return ()
    elsewhere = {code for codes in BY_SCRIPT.values() for code in codes} - {"hr", "az", "uz"}
    return tuple(sorted({group(code) for code in known_codes()} - elsewhere))


def _prose(text: str) -> str:
    plain = _NOT_PROSE.sub(" ", unicodedata.normalize("NFKC", text[:20_000]))
    unquoted = _QUOTED.sub(" ", plain)
    best = unquoted if _weights(_LABEL.sub(" ", unquoted)) else plain
    return _LABEL.sub(" ", best)


def _weights(prose: str) -> Counter[str]:
    """Letters by script; Chinese characters and kana count more than once."""
    weights: Counter[str] = Counter()
    for character, count in Counter(prose).items():
        script = _script(character)
        if script:
            weights[script] += count * (HAN_WEIGHT if script == "HAN" else 1)
    return weights


@cache
def _script(character: str) -> str:
    """LATIN, HAN (kana too), CYRILLIC …; "" for what is no letter."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    return _SCRIPT_NAMES.get(name, name)


def _by_model(prose: str, script: str, letters: int) -> Language:
    """The most probable of the script's languages, relatives taken together."""
    others = {ord(character): " " for character in set(prose) if _script(character) not in ("", script)}
    words = " ".join(prose.translate(others).split())
    within = set(_languages_of(script))
    shares: dict[str, float] = {}
    for code, probability in _model().rank(words):
        name = _GROUP_OF.get(code, code)
        if name in within:
            shares[name] = shares.get(name, 0.0) + float(probability)
    if not shares:
        return Language("", script, 0.0, letters)
    code, share = max(shares.items(), key=lambda item: item[1])
    return Language(code, script, share / sum(shares.values()), letters)


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
