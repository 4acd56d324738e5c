"""Fonts of the system by family, found through fontconfig (`fc-list`), for scripts and for handwriting.

Families and their Debian packages; all licences let rendered text be used freely:

| families | package | licence |
|---|---|---|
| Noto Sans, Serif, Naskh Arabic, Devanagari | fonts-noto-core | OFL 1.1 |
| Noto Sans CJK, Noto Serif CJK | fonts-noto-cjk | OFL 1.1 |
| DejaVu Sans, DejaVu Serif | fonts-dejavu-core | Bitstream Vera, public domain |
| Because We … | fonts-bwht | OFL 1.1 |
| Breip | fonts-breip | OFL 1.0 |
| Dancing Script | fonts-dancingscript | OFL 1.1 |
| Klee One | fonts-klee | OFL 1.1 |
| SetoFont | fonts-seto | OFL 1.1 |
| Yusei Magic | fonts-yusei-magic | OFL 1.1 |
"""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageFont, features

from data_recipes.records import SourceError
from data_recipes.synthetic.scripts import SCRIPTS, Name

Face = tuple[str, int]
"""(font file, index of the face in it)."""

_EUROPEAN = ("DejaVu Sans", "DejaVu Serif", "Noto Sans", "Noto Serif")
PRINTED: dict[Name, tuple[str, ...]] = {
    "latin": _EUROPEAN,
    "greek": _EUROPEAN,
    "cyrillic": _EUROPEAN,
    "han": ("Noto Sans CJK SC", "Noto Serif CJK SC"),
    "japanese": ("Noto Sans CJK JP", "Noto Serif CJK JP"),
    "hangul": ("Noto Sans CJK KR", "Noto Serif CJK KR"),
    "arabic": ("Noto Naskh Arabic", "Noto Sans Arabic"),
    "devanagari": ("Noto Sans Devanagari", "Noto Serif Devanagari"),
}
HANDWRITTEN: dict[Name, tuple[str, ...]] = {
    "latin": (
        *(
            "Because We Build",
            "Because We Connect",
            "Because We Learn",
            "Breip",
            "Dancing Script",
            "Klee One",
        ),
    ),
    "japanese": ("Klee One", "SetoFont", "Yusei Magic"),
}
"""Handwriting that Debian packages; for other scripts none was found with all letters."""
_PACKAGES = {"han": "fonts-noto-cjk", "japanese": "fonts-noto-cjk", "hangul": "fonts-noto-cjk"}


def faces(script: Name, *, handwritten: bool, families: Iterable[str] = ()) -> tuple[Face, ...]:
    """Installed faces for a script, in the order of their names; of these families if any are named.

    Raises SourceError, saying what to install, if there is none; also for a family that is not there or lacks letters.
    """
    if SCRIPTS[script].shaped and not features.check("raqm"):
        raise SourceError(
            f"scripts: expected Pillow with Raqm for {script}, whose letters change with their neighbours"
        )
    named = tuple(families)
    kind = HANDWRITTEN if handwritten else PRINTED
    found = tuple(face for family in named or kind.get(script, ()) for face in _installed(family))
    if named and (missing := [family for family in named if not _installed(family)]):
        raise SourceError(
            f"families: expected installed fonts, got {', '.join(missing)}, which fontconfig does not know"
        )
    if not found:
        packages = (
            "fonts-bwht, fonts-breip or fonts-klee"
            if handwritten
            else _PACKAGES.get(script, "fonts-noto-core")
        )
        wanted = ", ".join(kind.get(script, ()))
        raise SourceError(
            f"{'handwriting' if handwritten else 'scripts'}: expected an installed font for {script} ({wanted}), got none;"
            f" on Debian install {packages}, or name fonts with `fonts` or `families`"
        )
    for face in found:
        require_letters(face, script)
    return found


@lru_cache(maxsize=256)
def require_letters(face: Face, script: Name) -> None:
    """Raises SourceError for a font that lacks a letter of the script's words, which it would draw as an empty box."""
    try:
        font = ImageFont.truetype(face[0], 24, index=face[1])
    except OSError as error:
        raise SourceError(f"fonts: expected a TrueType or OpenType file, got {face[0]}: {error}") from None
    absent = bytes(font.getmask("\U0010fffd"))
    letters = sorted(
        {
            letter
            for word in SCRIPTS[script].words
            for letter in word
            if unicodedata.category(letter)[0] == "L"
        }
    )
    lacking = [letter for letter in letters if bytes(font.getmask(letter)) == absent]
    if lacking:
        raise SourceError(
            f"fonts: expected all letters of {script} in {face[0]}, but it lacks {''.join(lacking[:10])}"
        )


@lru_cache(maxsize=256)
def _installed(family: str) -> tuple[Face, ...]:
    """Upright faces of normal width and weight of a family, or all where it has none of these."""
    program = shutil.which("fc-list")
    if program is None:
        raise SourceError(
            "fonts: expected fontconfig's `fc-list` to find fonts by name, got none (Debian: fontconfig)"
        )
    escaped = "".join(f"\\{sign}" if sign in "-:,\\" else sign for sign in family)
    listed = subprocess.run(
        [program, escaped, "--format", "%{file}\t%{index}\t%{style[0]}\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("\t") for line in listed.stdout.splitlines()]
    found = sorted(
        (file, int(index), style) for file, index, style in lines if int(index) < 1 << 16
    )  # no instances
    plain = [entry for entry in found if entry[2] in ("Regular", "Book", "Medium", "Roman")] or found
    return tuple((file, index) for file, index, _ in plain)
