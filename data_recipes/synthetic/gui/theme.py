"""How a page looks: colours, fonts, sizes and spacing, drawn at random, as the variables of templates/theme.jinja."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

GENERIC = ("sans-serif", "serif", "monospace", "system-ui")


def theme(rng: random.Random, level: float, fonts: Sequence[str], height: int) -> dict[str, Any]:
    """level: from 0 (large, roomy, plain) to 1 (small and dense). height: of the window in CSS pixels."""
    dark = rng.random() < 0.35
    hue, other = rng.randrange(360), rng.randrange(360)
    tint = rng.choice((0, 0, 8, 20))
    families = [f"'{font}'" if " " in font else font for font in fonts or GENERIC]
    if dark:
        ground, panel, ink = f"hsl({other} {tint}% 10%)", f"hsl({other} {tint}% 16%)", f"hsl({other} 10% 92%)"
        edge, accent, on_accent = f"hsl({other} {tint}% 38%)", f"hsl({hue} 70% 68%)", "#111"
    else:
        ground, panel, ink = f"hsl({other} {tint}% 95%)", f"hsl({other} {tint}% 99%)", f"hsl({other} 15% 14%)"
        edge, accent, on_accent = f"hsl({other} {tint}% 70%)", f"hsl({hue} 65% 36%)", "#fff"
    bar_is_accent = rng.random() < 0.5
    return {
        "dark": dark,
        "ground": ground,
        "panel": panel,
        "ink": ink,
        "edge": edge,
        "accent": accent,
        "on_accent": on_accent,
        "bar": accent if bar_is_accent else panel,
        "on_bar": on_accent if bar_is_accent else ink,
        "shade": f"rgb(0 0 0 / {rng.choice((35, 50, 65))}%)",
        "font": rng.choice(families),
        "size": rng.choice((15, 16, 17, 18)) - round(4 * level * rng.random()),
        "title": rng.choice((1.3, 1.5, 1.8, 2.1)),
        "leading": rng.choice((1.25, 1.4, 1.55)),
        "radius": rng.choice((0, 2, 4, 8, 14)),
        "pad": rng.randint(3, 9) - round(2 * level),
        "gap": rng.randint(8, 18) - round(4 * level),
        "width": rng.choice((720, 900, 1100, 4000)),
        "column": rng.choice((200, 260, 320)),
        "dialog": rng.choice((320, 420, 520)),
        "dialog_top": rng.choice((8, 15, 25)),
        "scroll_height": round(height * rng.uniform(0.35, 0.6)),
        "bars": rng.choice(("auto", "auto", "thin")),
        **{
            name: rng.random() < share
            for name, share in {
                "underlined": 0.4,
                "bare_icons": 0.5,
                "centred": 0.5,
                "inline_labels": 0.3,
                "inline_checks": 0.4,
                "right_buttons": 0.3,
                "cards": 0.4,
                "grid": 0.5,
            }.items()
        },
    }
