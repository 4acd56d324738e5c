r"""What may follow a number: units by kind and size, percent, money, factors of ten in words, and plain nouns.

Why not a library: pint's parser evaluates expressions, rejects `apples` and `square units`, and takes milliseconds per name. Here
the names that answers use, with plurals and spelled-out forms, are looked up in a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from rewards.mathematics.tokens import Token

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unit:
    """`factor`: its size in the base unit of its `dimensions` (sorted pairs of base unit and power; none for percent and pure
    factors). `nouns`: words that are not units, in the singular."""

    factor: Fraction = Fraction(1)
    dimensions: Dimensions = ()
    nouns: frozenset[str] = frozenset()
    percent: bool = False

    def times(self, other: Unit, power: int = 1) -> Unit:
        """The product with a power of another unit."""
        powers = dict(self.dimensions)
        for name, exponent in other.dimensions:
            powers[name] = powers.get(name, 0) + exponent * power
        dimensions = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
        factor = self.factor * other.factor**power
        return Unit(factor, dimensions, self.nouns | other.nouns, self.percent or other.percent)


# base unit | size in it | symbols | words (singular; the plural in -s is known too)
_TABLE = """
m      1            m                     meter metre
m      1/1000000000 nm                    nanometer nanometre
m      1/1000000    um                    micrometer micrometre micron
m      1/1000       mm                    millimeter millimetre
m      1/100        cm                    centimeter centimetre
m      1/10         dm                    decimeter decimetre
m      1000         km                    kilometer kilometre
m      127/5000     in                    inch inches
m      381/1250     ft                    foot feet
m      1143/1250    yd                    yard
m      201168/125   mi                    mile
g      1            g                     gram gramme
g      1/1000000    ug                    microgram
g      1/1000       mg                    milligram
g      1000         kg                    kilogram kilo
g      1000000      t                     tonne
g      45359237/100000 lb,lbs             pound
g      45359237/1600000 oz                ounce
s      1            s,sec,secs            second 秒 秒钟
s      1/1000       ms                    millisecond
s      1/1000000    us                    microsecond
s      60           min,mins              minute 分钟
s      3600         h,hr,hrs              hour 小时
s      86400        d                     day 天
s      604800       wk                    week 周
month  1            mo                    month 月
month  12           yr,yrs                year 年
K      1            K                     kelvin
degC   1            -                     celsius
degF   1            -                     fahrenheit
angle  1            deg,degs              degree 度
rad    1            rad                   radian
A      1            A                     ampere amp
A      1/1000       mA                    milliampere
V      1            V                     volt
V      1000         kV                    kilovolt
ohm    1            -                     ohm Omega
mol    1            mol                   mole
bit    1            -                     bit
bit    8            B                     byte
bit    8000         kB,KB                 kilobyte
bit    8000000      MB                    megabyte
bit    8000000000   GB                    gigabyte
USD    1            USD                   dollar buck 美元
USD    1/100        -                     cent penny pennies
EUR    1            EUR                   euro
GBP    1            GBP                   -
JPY    1            JPY                   yen
CNY    1            CNY,RMB               yuan 元
INR    1            INR,Rs                rupee
unit   1            -                     unit
"""
# symbol | as a product of powers of the ones above
_DERIVED = """
L,l        dm^3            liter litre 升
mL,ml,cc   cm^3            milliliter millilitre 毫升
cL,cl      10*cm^3         centiliter centilitre
gal        231*in^3        gallon
N          kg*m*s^-2       newton
kN         1000*kg*m*s^-2  kilonewton
J          kg*m^2*s^-2     joule
kJ         1000*kg*m^2*s^-2 kilojoule
W          kg*m^2*s^-3     watt
kW         1000*kg*m^2*s^-3 kilowatt
kWh        3600000*kg*m^2*s^-2 -
Pa         kg*m^-1*s^-2    pascal
kPa        1000*kg*m^-1*s^-2 kilopascal
Hz         s^-1            hertz
kHz        1000*s^-1       kilohertz
MHz        1000000*s^-1    megahertz
C          A*s             coulomb
mph        mi*h^-1         -
kmh,kph    km*h^-1         -
ha         10000*m^2       hectare
acre       43560*ft^2      acre
-          km              公里 千米
-          cm              厘米
-          m               米
-          kg              公斤 千克
-          g               克
"""

SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12, "score": 20,
    "hundreds": 100, "thousands": 1000, "millions": 10**6, "billions": 10**9, "dozens": 12,
    "十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8, "lakh": 10**5, "crore": 10**7, "mln": 10**6, "bn": 10**9,
}  # fmt: skip
"""Words after a number that multiply it."""

_PERCENT = {"percent", "pct", "percentage"}
_MONEY = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "CNY", "₹": "INR"}
_AREA = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}
_RAISED = {"squared": 2, "cubed": 3}
# Words that only connect a number to a noun or end a phrase.
_EMPTY = {
    "of",
    "the",
    "a",
    "an",
    "in",
    "on",
    "at",
    "from",
    "for",
    "by",
    "with",
    "total",
    "more",
    "all",
    "altogether",
    "left",
    "remaining",
    "away",
    "long",
    "tall",
    "high",
    "wide",
    "deep",
    "old",
    "ago",
    "each",
    "exactly",
    "now",
    "then",
    "there",
    "again",
    "together",
    "his",
    "her",
    "their",
    "its",
    "our",
    "your",
}
REFUSED = {"not", "than", "to", "no", "never", "neither", "nor", "none", "nothing", "or", "either", "but", "except", "excluding", "without", "unless", "if", "less", "fewer", "greater", "larger", "smaller", "bigger", "higher", "lower", "above", "below", "over", "under", "least", "most", "maximum", "minimum", "between", "instead", "rather", "maybe", "perhaps", "possibly", "probably", "might", "may", "could", "would", "should", "wrong", "incorrect", "false", "isn", "aren", "wasn", "doesn", "don", "t", "is", "are", "was", "were", "has", "have", "half", "quarter", "third", "times", "twice", "double", "triple", "and", "plus", "minus", "divided", "multiplied", "approximately", "almost", "nearly", "until", "up", "down", "cannot", "can", "unlike", "versus", "vs", "beyond", "short", "off", "too", "many", "much", "few", "several"}  # fmt: skip
"""A phrase with one of these words is not a label: it says something else about the number than what it counts."""


@cache
def _units() -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        base, size, symbols, *words = line.split()
        unit = Unit(Fraction(size), ((base, 1),))
        for name in [*symbols.split(","), *words]:
            _name(found, name, unit)
    for line in _DERIVED.strip().splitlines():
        symbols, product, *words = line.split()
        unit = Unit()
        for part in product.split("*"):
            name, _, power = part.partition("^")
            unit = unit.times(Unit(Fraction(name)) if name.isdigit() else found[name], int(power or 1))
        for name in [*symbols.split(","), *words]:
            _name(found, name, unit)
    return found


def _name(found: dict[str, Unit], name: str, unit: Unit) -> None:
    if name == "-":
        return
    found[name] = unit
    if len(name) > 3 and name.isascii() and name.islower():
        found[name + "s"] = found[name.capitalize()] = found[name.capitalize() + "s"] = unit


def is_unit(word: str) -> bool:
    """Whether a word is a unit's name or symbol, a scale or a percent word."""
    return word in _units() or word in SCALES or word.lower() in _PERCENT


def singular(noun: str) -> str:
    """A noun without its plural ending, in lower case."""
    noun = noun.lower()
    for ending, short in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("xes", "x"),
        ("s", ""),
    ):
        if noun.endswith(ending) and len(noun) > len(ending) + 1 and not noun.endswith(("ss", "us")):
            return noun.removesuffix(ending) + short
    return noun


def money(symbol: str) -> Unit | None:
    """The unit of a currency sign or code before a number."""
    name = _MONEY.get(symbol, symbol)
    unit = _units().get(name)
    return (
        unit
        if unit is not None and unit.dimensions[0][0] in ("USD", "EUR", "GBP", "CNY", "JPY", "INR")
        else None
    )


def read_unit(tokens: list[Token], at: int) -> tuple[Unit, int] | None:
    """The unit or label at a position, and the position after it; None if there is none.

    `km`, `cm^2`, `m/s`, `square metres`, `loaves per day`, `million dollars`, `apples in the basket`, `%`, `^\\circ`, `€`.
    """
    unit, start, sign = Unit(), at, 1
    while at < len(tokens):
        token = tokens[at]
        if at > start and (
            token.text in ("/", "per") or (token.text in ("a", "an") and token.kind == "word")
        ):
            part = _factor(tokens, at + 1)
            sign = -1
        elif at > start and token.text in ("*", "cdot", "times"):
            part = _factor(tokens, at + 1)
        else:
            part = _factor(tokens, at)
        if part is None:
            break
        unit, at = unit.times(part[0], sign), part[1]
        sign = 1
    return (unit, at) if at > start else None


def _factor(tokens: list[Token], at: int) -> tuple[Unit, int] | None:
    """One unit with its power, one scale or noun."""
    power = 1
    token = tokens[at] if at < len(tokens) else None
    if token is not None and token.kind == "word" and token.text.lower() in _AREA:
        power, at = _AREA[token.text.lower()], at + 1
        token = tokens[at] if at < len(tokens) else None
    if token is None:
        return None
    text, lower = token.text, token.text.lower()
    if degree := _degree(tokens, at):
        return degree
    if text in ("%", "\\%") or (token.kind == "word" and lower in _PERCENT):
        return Unit(Fraction(1, 100), percent=True), at + 1
    if text in _MONEY:
        return _units()[_MONEY[text]], at + 1
    if (
        token.kind == "command"
        and text == "mu"
        and at + 1 < len(tokens)
        and "u" + tokens[at + 1].text in _units()
    ):
        unit, at = _units()["u" + tokens[at + 1].text], at + 1
    elif token.kind not in ("word", "letter"):
        return None
    elif token.kind == "word" and lower in SCALES:
        return Unit(Fraction(SCALES[lower])), at + 1
    elif text in _units() and not (text == "in" and _is_preposition(tokens, at)):
        unit = _units()[text]
    elif token.kind == "letter" or lower in REFUSED or len(text) > 30:
        return None
    else:
        unit = Unit() if lower in _EMPTY else Unit(nouns=frozenset({singular(text)}))
    exponent, at = _exponent(tokens, at + 1)
    return Unit().times(unit, power * exponent), at


def _is_preposition(tokens: list[Token], at: int) -> bool:
    return (
        at + 1 < len(tokens)
        and tokens[at + 1].kind == "word"
        and tokens[at + 1].text not in ("per", "long", "tall", "wide", "high")
    )


def _degree(tokens: list[Token], at: int) -> tuple[Unit, int] | None:
    r"""`^\circ`, `^{\circ}` or `degrees`, optionally followed by C, F, Celsius or Fahrenheit."""
    marks = [token.text for token in tokens[at : at + 4]]
    if marks[:2] == ["^", "circ"]:
        at += 2
    elif marks == ["^", "{", "circ", "}"]:
        at += 4
    elif marks[:1] in (["degree"], ["degrees"], ["deg"]):
        at += 1
    else:
        return None
    scale = tokens[at].text.lower() if at < len(tokens) else ""
    if scale in ("c", "celsius", "f", "fahrenheit"):
        return Unit(dimensions=((("degC" if scale[0] == "c" else "degF"), 1),)), at + 1
    return _units()["degree"], at


def _exponent(tokens: list[Token], at: int) -> tuple[int, int]:
    """A power written `^2`, `^{-1}`, `2` (attached) or `squared`, else 1; and the position after it."""
    texts = [token.text for token in tokens[at : at + 5]]
    match texts:
        case ["^", ("2" | "3" | "4") as power, *_]:
            return int(power), at + 2
        case ["^", "-", ("1" | "2" | "3") as power, *_]:
            return -int(power), at + 3
        case ["^", "{", ("2" | "3" | "4") as power, "}", *_]:
            return int(power), at + 4
        case ["^", "{", "-", ("1" | "2" | "3") as power, "}"]:
            return -int(power), at + 5
        case [("2" | "3") as power, *_] if not tokens[at].spaced:
            return int(power), at + 1
        case [("squared" | "cubed") as power, *_]:
            return _RAISED[power], at + 1
    return 1, at
