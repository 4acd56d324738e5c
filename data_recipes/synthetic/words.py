"""Words for generated texts: common nouns, and codes without easily confused characters (O and 0, I and 1, B and 8)."""

from __future__ import annotations

import random

_TEXT = """
    anchor apple arrow autumn badge bakery bamboo barrel basket battery beacon bench berry bicycle blanket bottle branch
    bridge bronze bucket button cabin cable camera candle canyon carpet castle cellar chapel cherry circle clover coffee
    comet copper corner cotton cradle crystal curtain dancer desert diamond dinner doctor dragon drawer eagle engine
    envelope evening fabric falcon farmer feather fiddle flower forest fossil fountain galaxy garden garlic ginger glacier
    granite guitar hammer harbour harvest helmet honey horizon hunter island ivory jacket jasmine journey jungle kettle
    kitchen ladder lantern lemon library lizard lobster magnet mango maple marble market meadow medal melon mirror monkey
    mountain museum mustard needle nickel north notebook novel nutmeg ocean office olive onion orange orchard oven oyster
    palace panther paper parcel parrot pencil pepper piano picnic pigeon pillow pirate planet pocket potato prairie
    printer pumpkin puzzle quartz rabbit radio railway rainbow recipe ribbon river rocket saddle salmon sandal saucer
    school scissors season shadow shelter signal silver sister sparrow spider spring squash station statue stone summer
    sunset surface sweater table tailor teapot temple tennis thunder ticket tiger timber tomato tower trumpet tunnel
    turtle umbrella valley vanilla velvet village violin volcano wagon walnut water weather whistle willow window winter
    wizard yellow zebra
"""
WORDS = tuple(_TEXT.split())
_LETTERS, _DIGITS = "ACDEFHKLMNPRTUVWXY", "23456789"


def random_token(rng: random.Random, codes: float) -> str:
    """A word (lower case, capitalised or upper case), or with probability `codes` a code, number, price or time of day."""
    if rng.random() < codes:
        form = rng.choice(("AA-9999", "9A9A9A", "9,999", "$99.99", "9:49", "A9-99"))
        return "".join(_filled(rng, sign) for sign in form)
    word = rng.choice(WORDS)
    return rng.choice((word, word.capitalize(), word.upper()))


def random_number(rng: random.Random) -> str:
    """A number or time of day without letters."""
    return "".join(_filled(rng, sign) for sign in rng.choice(("9,999", "99999", "9:49", "999")))


def _filled(rng: random.Random, sign: str) -> str:
    if sign == "A":
        return rng.choice(_LETTERS)
    if sign == "9":
        return rng.choice(_DIGITS)
    return rng.choice("2345") if sign == "4" else sign
