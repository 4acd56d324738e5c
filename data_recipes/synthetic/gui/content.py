"""What a page shows, as the variables of templates/: drawn at random, for a kind of question that it must be good for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, get_args

from data_recipes.synthetic.gui import vocabulary as v

PageKind = Literal["form", "list", "table", "dialog", "menu", "settings"]
Kind = Literal[
    "grounding",
    "pointing",
    "click",
    "input",
    "select",
    "scroll",
    "press",
    "hover",
    "drag",
    "wait",
    "finished",
]
PAGES: dict[str, tuple[PageKind, ...]] = {
    **dict.fromkeys(("grounding", "pointing", "click"), get_args(PageKind)),
    "input": ("form", "list", "dialog", "settings"),
    "select": ("form", "settings"),
    "scroll": ("list", "table"),
    "press": ("form", "dialog", "menu"),
    "hover": ("list", "table", "menu"),
    "drag": ("list", "settings"),
    "wait": ("form", "list", "table", "settings"),
    "finished": ("form", "settings"),
}
"""Pages on which a kind of question can be asked."""
Content = dict[str, Any]


def page(rng: random.Random, kind: PageKind, asked: str, level: float, small: bool) -> Content:
    """The content of a page. asked: the kind of question that must be possible. level: from 0 (little on it) to 1. small: a
    window as narrow as a phone's."""
    main = rng.choice(("form", "list", "table")) if kind == "dialog" else kind
    drawn: Content = {
        "top": _top(rng, small, sticky=asked == "scroll" and rng.random() < 0.5),
        "main": {"kind": main, **MAINS[main](rng, asked, level, small)},
        "scroll": None,
        "dialog": _dialog(rng, asked) if kind == "dialog" else None,
        "note": _numbered(rng, rng.choice(v.NOTES)) if kind != "dialog" and rng.random() < 0.25 else None,
        "busy": rng.choice(v.BUSY) if asked == "wait" else None,
    }
    if asked == "scroll" and not drawn["main"]["boxed"]:
        drawn["scroll"] = _share(rng)
    return drawn


def _top(rng: random.Random, small: bool, sticky: bool) -> Content:
    icons = v.some(rng, ("search", "account", "mail", "menu", "home", "refresh"), rng.randint(1, 3))
    return {
        "brand": rng.choice(v.BRANDS),
        "links": v.some(rng, v.NAVIGATION, rng.randint(1, 2) if small else rng.randint(2, 5)),
        "tools": [(name, v.LABELS[name]) for name in icons],
        "sticky": sticky,
    }


def _form(rng: random.Random, asked: str, level: float, small: bool) -> Content:
    fields = [
        _text_field(rng, label) for label in v.some(rng, v.FIELDS, rng.randint(3, 5 + round(4 * level)))
    ]
    fields += [_select(rng, label) for label in v.some(rng, tuple(v.SELECTS), rng.randint(1, 2))]
    if rng.random() < 0.4:
        fields.append(
            {
                "id": "notes",
                "label": "Notes",
                "kind": "textarea",
                "value": v.sentence(rng, 5) if rng.random() < 0.5 else "",
                "disabled": False,
            }
        )
    rng.shuffle(fields)
    if asked == "press" or rng.random() < 0.3:
        rng.choice([f for f in fields if f["kind"] == "text" and not f["disabled"]] or fields)["focused"] = (
            True
        )
    buttons = [*v.some(rng, v.SECONDARY, rng.randint(1, 2)), rng.choice(v.SUBMITS)]
    return {
        "title": rng.choice(v.FORMS),
        "fields": fields,
        "radios": _radios(rng, rng.randint(0, 1 + round(level))),
        "checks": [_check(rng, label) for label in v.some(rng, v.CHECKS, rng.randint(2, 4))],
        "buttons": [{"label": label, "disabled": rng.random() < 0.12} for label in buttons],
        "boxed": True,
    }


def _list(rng: random.Random, asked: str, level: float, small: bool) -> Content:
    what = rng.choice(tuple(v.LISTS))
    long = asked == "scroll"
    items = v.things(rng, what, rng.randint(22, 40) if long else rng.randint(3, 6 + round(6 * level)))
    if long:
        items.sort(key=str.casefold)
    actions = v.some(rng, v.ENTRY_ACTIONS, 1 if small else rng.randint(1, 3))
    order = "numerical" if what == "numbers" else "alphabetical"
    return {
        "title": rng.choice(v.LISTS[what]),
        "search": {
            "label": rng.choice(("Search", "Find an entry", "Filter by name")),
            "value": rng.choice(v.WORDS) if rng.random() < 0.2 else "",
            "focused": rng.random() < 0.2,
        },
        "buttons": [
            {"label": label, "icon": icon}
            for label, icon in rng.sample(v.LIST_BUTTONS, rng.randint(0 if small else 1, 2))
        ],
        "caption": f"{len(items)} entries in {order} order" if long else None,
        "boxed": rng.random() < 0.5 if long else False,
        "scroll": _share(rng),
        "entries": [
            {
                "title": title,
                "detail": v.sentence(rng, 3) if rng.random() < 0.6 else None,
                "checked": rng.random() < 0.3,
            }
            for title in items
        ],
        "actions": [(name, v.LABELS[name]) for name in actions],
        "icons": small or rng.random() < 0.5,
        "handles": asked == "drag" or rng.random() < 0.2,
        "ticks": rng.random() < 0.35,
    }


def _table(rng: random.Random, asked: str, level: float, small: bool) -> Content:
    what = rng.choice(("people", "numbers", "things", "files"))
    sideways = asked == "scroll" and rng.random() < 0.4
    long = asked == "scroll" and not sideways
    count = rng.randint(24, 45) if long else rng.randint(4, 7 + round(6 * level))
    columns = list(v.MONTHS) if sideways else v.some(rng, v.COLUMNS, 1 if small else rng.randint(2, 5))
    titles = v.things(rng, what, count)
    if long:
        titles.sort(key=str.casefold)
    order = "numerical" if what == "numbers" else "alphabetical"
    caption = (
        "The months run from left to right."
        if sideways
        else (f"{count} rows in {order} order" if long else None)
    )
    actions = v.some(rng, v.ENTRY_ACTIONS, rng.randint(0, 2)) if not sideways else []
    return {
        "title": rng.choice(v.LISTS[what]),
        "caption": caption,
        "boxed": sideways or (long and rng.random() < 0.6) or rng.random() < 0.15,
        "scroll": 0 if sideways else _share(rng) if long else 0,
        "scroll_x": _share(rng) if sideways else 0,
        "columns": ["Name", *columns],
        "rows": [
            {
                "cells": [title, *(_cell(rng, "Amount" if sideways else c) for c in columns)],
                "checked": rng.random() < 0.3,
            }
            for title in titles
        ],
        "actions": [(name, v.LABELS[name]) for name in actions],
        "icons": rng.random() < 0.5,
        "ticks": rng.random() < 0.35,
        "pages": (pages := 0 if asked == "scroll" else rng.choice((0, 3, 5, 8))),
        "page": rng.randint(1, pages) if pages else 0,
    }


def _menu(rng: random.Random, asked: str, level: float, small: bool) -> Content:
    names = [name for name in v.MENUS if rng.random() < 0.8][: 3 if small else 5] or ["File"]
    opened = rng.choice(names) if asked == "press" or rng.random() < 0.75 else None
    items: list[Content] = []
    for label, keys in v.MENUS[opened] if opened else ():
        if rng.random() < 0.12:
            continue
        ticked = rng.random() < 0.5 if label in v.CHECKABLE else None
        disabled = keys is not None and asked != "press" and rng.random() < 0.15
        items.append({"label": label, "shortcut": keys, "checked": ticked, "disabled": disabled})
        if rng.random() < 0.2:
            items.append({"label": None})
    tools = v.some(rng, tuple(v.LABELS), rng.randint(3, 5 + round(6 * level)))
    return {
        "names": names,
        "open": opened,
        "entries": items,
        "tools": [(name, v.LABELS[name]) for name in tools],
        "title": " ".join(v.things(rng, "things", 1)),
        "paragraphs": [v.sentence(rng, rng.randint(8, 30)) for _ in range(rng.randint(2, 5))],
    }


def _settings(rng: random.Random, asked: str, level: float, small: bool) -> Content:
    sections = v.some(rng, v.SECTIONS, rng.randint(3, 6))
    tabs = v.some(rng, v.TABS, rng.randint(2, 2 if small else 4))
    return {
        "title": rng.choice(sections),
        "sections": sections,
        "tabs": tabs,
        "tab": rng.choice(tabs),
        "switches": [
            _check(rng, label) for label in v.some(rng, v.SWITCHES, rng.randint(2, 4 + round(3 * level)))
        ],
        "sliders": [
            {"label": label, "value": rng.randrange(5, 100, 5)}
            for label in v.some(rng, v.SLIDERS, rng.randint(1 if asked == "drag" else 0, 2))
        ],
        "fields": [_select(rng, label) for label in v.some(rng, tuple(v.SELECTS), rng.randint(1, 2))]
        + [
            _text_field(rng, label)
            for label in v.some(rng, v.FIELDS, 1 if asked == "input" else rng.randint(0, 1))
        ],
        "radios": _radios(rng, rng.randint(0, 1)),
        "buttons": [
            {"label": label, "disabled": rng.random() < 0.12}
            for label in (rng.choice(v.SECONDARY), rng.choice(("Apply", "Save changes")))
        ],
    }


MAINS: dict[str, Callable[[random.Random, str, float, bool], Content]] = {
    "form": _form,
    "list": _list,
    "table": _table,
    "menu": _menu,
    "settings": _settings,
}


def _dialog(rng: random.Random, asked: str) -> Content:
    title, text, buttons = rng.choice(v.DIALOGS)
    fields = [
        _text_field(rng, label)
        for label in v.some(rng, ("User name", "Folder", "Comment", "Password hint"), rng.randint(0, 2))
    ]
    if asked == "input" and not fields:
        fields = [_text_field(rng, "User name")]
    return {
        "title": title,
        "text": _numbered(rng, text),
        "buttons": list(buttons),
        "fields": [f | {"disabled": False, "id": f"d-{f['id']}"} for f in fields],
        "checks": [_check(rng, "Do not ask again")] if rng.random() < 0.4 else [],
    }


def _text_field(rng: random.Random, label: str) -> Content:
    filled = rng.random() < 0.4
    return {
        "id": label.lower().replace(" ", "-"),
        "label": label,
        "kind": "text",
        "value": v.field_value(rng, label) if filled else "",
        "placeholder": f"e.g. {v.field_value(rng, label)}" if rng.random() < 0.3 else "",
        "disabled": rng.random() < 0.1,
        "focused": False,
    }


def _select(rng: random.Random, label: str) -> Content:
    options = v.SELECTS[label]
    return {
        "id": label.lower().replace(" ", "-"),
        "label": label,
        "kind": "select",
        "options": list(options),
        "value": rng.choice(options),
        "disabled": rng.random() < 0.08,
    }


def _check(rng: random.Random, label: str) -> Content:
    return {"label": label, "checked": rng.random() < 0.4, "disabled": rng.random() < 0.1}


def _radios(rng: random.Random, groups: int) -> list[Content]:
    made = []
    for legend in v.some(rng, tuple(v.RADIOS), groups):
        chosen = rng.randrange(len(v.RADIOS[legend]))
        choices = [
            {"label": label, "checked": i == chosen, "disabled": False}
            for i, label in enumerate(v.RADIOS[legend])
        ]
        made.append({"legend": legend, "choices": choices})
    return made


def _cell(rng: random.Random, column: str) -> str:
    if column == "Amount":
        return f"{rng.randrange(10, 9999):,}.{rng.randrange(100):02d}"
    of = {"Status": v.STATUSES, "City": v.CITIES, "Month": v.MONTHS, "Country": v.COUNTRIES}
    return v.person(rng) if column == "Owner" else rng.choice(of[column])


def _share(rng: random.Random) -> float:
    """How far a box is scrolled: not at all, all the way, or somewhere between."""
    return rng.choice((0.0, 0.0, 1.0, round(rng.uniform(0.2, 0.8), 2)))


def _numbered(rng: random.Random, text: str) -> str:
    return text.replace("{n}", str(rng.randrange(2, 40)))
