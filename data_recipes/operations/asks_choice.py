"""Questions that cannot be asked without their options: those that have one answer among a few and many in the world.

"Which equation represents the line?" and "Which number is a multiple of 7?" need their options; "Which number is missing?" and
"Which fraction of the square is grey?" do not. Only what the text asks is read: a clause as "which is 4 cm long" or "how many
ways are there to choose 2 cards?" says nothing about options. Where in doubt, the question is left with its options.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.?!。？！])(?:\s+|(?=[^\s\d.?!)\]”\"]))|\n+")
_SHORT_FORM = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|vs|No|Fig|e\.g|i\.e)\.")
_ASKS = re.compile(r"[?？][”\") ]*\Z|[（(][\s　]*[）)]|_{3,}")
_MEDIA = re.compile(r"<(?:image|video)\d*>")

_WRITTEN_OUT = (
    r"(?:equation|expression|inequalit(?:y|ies)|equalit(?:y|ies)|function|formula|rule|model|identit(?:y|ies)|polynomial|statement|sentence"
    r"|graph|diagram|figure|picture|system|pair|set|table|triple|list|sequence|proportion|matri(?:x|ces)|factori[sz]ation|claim"
    r"|conclusion|assertion|property|description|option|choice|answer|alternative|estimate|estimation|approximation|method|relation(?:ship)?"
    r"|configuration|arrangement|combination)s?\b"
)
_BETWEEN = r"(?:(?!(?:is|are|was|were|of|the|in|on|at|value|number|fraction|percent|percentage|part|does|do|did|will|a|an|her|his|their|its)\s)[\w-]+\s+){0,2}"
_NUMBERS = r"(?:numbers?|fractions?|decimals?|integers?|values?|percents?|percentages?|ratios?|sums?|products?|quotients?|differences?|roots?|points?)"
_HAS = (
    r"(?:is|are|has|have|would|could|can|cannot|does\s+not|do\s+not|rounds?|lies?|equals?|makes?|satisf(?:y|ies)|shows?|represents?"
    r"|written\s+in\s+\w+\s+notation\s+is)\s+"
)
_ONLY_ONE = (
    r"(?!missing|hidden|next|left\b|the\s+(?:next|missing|last|result|sum|answer|value|largest|smallest|ratio)|(?:in|on|at|under|behind)\s"
    r"|stand|come|replace|be\s+(?:in|on|at|written|under|the\s+(?:last|next)|left))"
)
_EXTREME = r"(?:maximum|minimum|greatest|largest|smallest|least|most|highest|lowest|fewest|probability|how\s+many\s+(?:ways|different|possible)|in\s+how\s+many)"

_NEEDS = re.compile(
    # things that are written out: many others would do as well
    rf"\b(?:which|what)\s+(?:number\s+sentences?\b|{_BETWEEN}{_WRITTEN_OUT})"
    # a number by a property that others have too
    rf"|\bin\s+which\s+(?:number|fraction|decimal|integer)\b|(?<!in\s)\bwhich\s+(?:[\w-]+\s+)?{_NUMBERS}\s+{_HAS}{_ONLY_ONE}"
    rf"|\bwhich\s+{_NUMBERS}\s+(?:below|above|here|shown|listed)\b"
    # words that point at a list
    r"|\bwhich\b[^?\n]{0,60}?\b(?:following|these|those|options?|choices?|answers?)\b|\bwhich\s+one\b"
    r"|\bof\s+the\s+following\b|\bfollowing\s+(?:is|are|could|can|must|might|would|pairs?|expression|number|value|statement|option|equation|inequalit|function)"
    r"|(?:\A|\bthen\s|\A(?:of|among|if|given)\b[^?\n]{1,300}[,:;]\s*)which\s+(?:is|are|must|could|can|does|has|have|will)\b(?!\s*the\s+result)"
    r"|\b(?:given|answer|following|listed|below)\s+(?:options?|choices?|alternatives?)\b|\b(?:options?|choices?)\s+(?:given|below|above|listed)\b"
    r"|(?:\A|,\s*)(?:please\s+)?(?:choose|select|pick)\s+(?:the|one|an?|all)\b"
    # an answer that is only nearly right, or one of several right ones
    r"|\b(?:closest|nearest)\s+(?:to|estimate|approximation|value)\b|\bis\s+(?:closest|nearest)\b|\bapproximately\s+equal\s+to\b"
    r"|\b(?:good|best|reasonable|closest)\s+(?:estimate|approximat\w+)|\bbest\s+(?:describes?|represents?|shows?|models?|fits?|approximates?)\b"
    r"|\b(?:about|approximately|roughly)\s+(?:how|what)\b|\bthe\s+approximate\b|\b(?:another|a\s+different)\s+(?:way|form)\s+(?:to|of)\b|\bcan\s+(?:also\s+)?be\s+(?:used|written|expressed)\b"
    rf"|\A(?!.{{0,200}}\b{_EXTREME})[^?\n]{{0,400}}\b(?:could|might|may|can(?:not|\s+not))\b[^?\n]{{0,40}}\b(?:be|equal|have|represent|define|model|weigh|appear|stand)\b"
    r"|\b(?:not|except)\s*:?\s*(?:[(（_?]|\Z)|\bnot\s+(?:true|correct|possible|equal|be)\b|\b(?:must|always|never)\s+(?:be\s+)?(?:true|false)\b"
    r"|\bis\s+(?:true|false|correct|incorrect)\s*\??\s*\Z"
    r"|\bthen\s*:?\s*\Z"
    r"|下列|以下(?!简称)|下面|选项|哪[个一项些种]|可能[是为]|最接近|不可能|不正确|错误的|正确的是|真命题|可以表示为|列(?:方程|式)(?:正确|为|是)",
    re.IGNORECASE,
)


def needs_options(text: str) -> bool:
    """Whether a question, without its list of options, cannot be asked: by rule, on what the text asks."""
    plain = _SHORT_FORM.sub(r"\1", _MEDIA.sub(" ", text))
    sentences = [part.strip() for part in _SENTENCE_END.split(plain) if part and part.strip()]
    asked = [part for part in sentences if _ASKS.search(part)] or sentences[-1:]
    return any(_NEEDS.search(part) for part in asked)
