"""Rows → training sequences of at most a window: documents with the loss on all their text, instruction rows on their trace.

A document is its texts and media in reading order, without a chat template, and an end token. Its visual tokens and their
marks are no targets, nor is its first token, which nothing predicts. A document longer than the window becomes several
sequences, each with positions from 0: it is cut inside texts, at the last end of a paragraph, line, sentence or word that
fits, and between media, never in one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.rows import BrokenRow, Row, check_document
from sft.data import encode_example
from vlm.inputs import Encoded, encode_ids, expanded_length, special_tokens, spread
from vlm.media import MediaError, load_media
from vlm.packed.packing import Segment

END_OF_TEXT = "<|endoftext|>"
"""Ends a document where the tokenizer has it; elsewhere its end token does."""
BOUNDARIES = (r"\n\s*\n\s*", r"\s*\n\s*", r"(?<=[.!?…])\s+|(?<=[.!?…]['\"”’)])\s+|(?<=[。!?])", r"\s+")
"""Ends of paragraphs, lines, sentences and words."""


class UnusableRow(UserError, ValueError):
    """A row that cannot be trained on; the message says where it is and why."""


@dataclass(frozen=True)
class Unit:
    """Of a document: a text (starts: where each of its tokens begins in `text`), a medium between its marks, or the end.

    ids: before expansion, one placeholder per medium. length: tokens after it. medium: kind and number in the row.
    """

    ids: Sequence[int]
    length: int
    medium: tuple[str, int] | None = None
    text: str = ""
    starts: Sequence[int] = ()

    def cut(self, room: int) -> tuple[Unit, Unit] | None:
        """A text in two, of which the first has at most `room` tokens; None if this cannot be cut so."""
        if not self.starts or room < 1:
            return None
        place = boundary(self.text, self.starts, room)
        parts = ((self.ids[p], self.starts[p]) for p in (slice(place), slice(place, None)))
        first, rest = (Unit(ids, len(ids), None, self.text, starts) for ids, starts in parts)
        return first, rest


@dataclass(frozen=True)
class Documents:
    """Makes sequences of rows. window: most tokens of one. media: kinds that rows may have."""

    processor: Any
    window: int
    media: tuple[str, ...] = ("image", "video")
    max_frames: int = 256

    def __call__(self, where: str, record: Any, folder: Path) -> list[Segment]:
        """The sequences of one record, most rows' only one. Raises UnusableRow."""
        try:
            row = check_document(record, folder)
            for kind in ("image", "video"):
                if row[f"{kind}s"] and kind not in self.media:
                    raise BrokenRow(
                        f"{kind}s", f"expected none, as data.media does not have {kind}, got some"
                    )
            return self.document(row) if row.get("document") is not None else [self.instruction(row)]
        except (BrokenRow, MediaError, ValueError) as error:
            raise UnusableRow(f"{where}: {error}") from None

    def instruction(self, row: Row) -> Segment:
        """A row with prompt and trace, as SFT trains on it. Raises ValueError if it is longer than the window."""
        example = encode_example(self.processor, row, max_frames=self.max_frames)
        if len(example) > self.window:
            raise ValueError(
                f"row {row['id']!r}: expected at most data.window = {self.window} tokens of prompt and trace, which are not"
                f" cut, got {len(example)}"
            )
        trained = example.stage_ids > 0
        return Segment(example.sequence, trained, trained.float())

    def document(self, row: Row) -> list[Segment]:
        """A document's sequences. Raises ValueError for an empty one, special tokens in its text, and media larger than the
        window."""
        images, videos = load_media(row, max_frames=self.max_frames)
        media: dict[str, list[Any]] = {"image": images, "video": videos}
        groups = split(list(self._units(row, media)), self.window - 1)
        if not groups:
            raise ValueError(f"row {row['id']!r}: field 'document': expected text or media, got none")
        groups[-1].append(Unit([end_of_document(self.processor.tokenizer)], 1))  # there is room for it
        segments = []
        for units in groups:
            chosen: dict[str, list[Any]] = {"image": [], "video": []}
            for unit in units:
                if unit.medium is not None:
                    kind, number = unit.medium
                    chosen[kind].append(media[kind][number])
            ids = [token for unit in units for token in unit.ids]
            text = [unit.medium is None for unit in units for _ in unit.ids]
            sequence = encode_ids(self.processor, ids, chosen["image"], chosen["video"])
            segments.append(_segment(self.processor, sequence, text))
        return segments

    def _units(self, row: Row, media: dict[str, list[Any]]) -> Iterator[Unit]:
        """Texts and media in reading order; neighbouring texts are one."""
        numbers = {"image": 0, "video": 0}
        text = ""
        for part in row["document"]:
            if part["type"] == "text":
                text += part["text"]
                continue
            yield from self._text(text, row)
            text, kind = "", part["type"]
            ids = medium_ids(self.processor, kind)
            one = media[kind][numbers[kind]]
            alone = ([one], []) if kind == "image" else ([], [one])
            length = expanded_length(self.processor, ids, *alone)
            if length >= self.window:
                raise ValueError(
                    f"row {row['id']!r}: field '{kind}s[{numbers[kind]}]': expected fewer than data.window = {self.window}"
                    f" tokens, since media are not cut, got {length}"
                )
            yield Unit(ids, length, (kind, numbers[kind]))
            numbers[kind] += 1
        yield from self._text(text, row)

    def _text(self, text: str, row: Row) -> Iterator[Unit]:
        if special := [token for token in special_tokens(self.processor.tokenizer) if token in text]:
            raise ValueError(
                f"row {row['id']!r}: field 'document': expected plain text, got the special token {special[0]}"
            )
        if text:
            out = self.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            starts = [start for start, _ in out["offset_mapping"]]
            yield Unit(out["input_ids"], len(starts), None, text, starts)


def boundary(text: str, starts: Sequence[int], room: int) -> int:
    """Tokens, from 1 to `room`, of the first part of a text that is cut where a paragraph, line, sentence or word ends.

    starts: of each token in the text; there are more than `room`. Of the boundaries that leave the first part at least half
    full, the last one of the best kind; where there is none, `room`.
    """
    begin, end = starts[0], starts[room] + 1
    while end < len(text) and text[end].isspace():  # a word's token may begin with the spaces before it
        end += 1
    for pattern in BOUNDARIES:
        found = re.finditer(pattern, text[begin:end])
        places = {begin + place for match in found for place in range(match.start(), match.end() + 1)}
        for tokens in range(room, math.ceil(room / 2) - 1, -1):
            if tokens and starts[tokens] in places:
                return tokens
    return room


def split(units: Sequence[Unit], window: int) -> list[list[Unit]]:
    """The units in groups of at most `window` tokens, in order; texts that do not fit are cut, media are not."""
    groups: list[list[Unit]] = [[]]
    room, waiting = window, list(reversed(units))
    while waiting:
        unit = waiting.pop()
        if unit.length <= room:
            groups[-1].append(unit)
            room -= unit.length
            continue
        if parts := unit.cut(room):
            groups[-1].append(parts[0])
            unit = parts[1]
        waiting.append(unit)
        groups.append([])
        room = window
    return [group for group in groups if group]


@lru_cache(maxsize=8)
def medium_ids(processor: Any, kind: str) -> tuple[int, ...]:
    """A medium's placeholder between the marks that the chat template puts around it, as ids before expansion."""
    before, after = "mark-before", "mark-behind"
    content = [{"type": "text", "text": before}, {"type": kind}, {"type": "text", "text": after}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    between = text.partition(before)[2].partition(after)[0].strip()
    return tuple(processor.tokenizer(between, add_special_tokens=False)["input_ids"])


def end_of_document(tokenizer: Any) -> int:
    """The id of the token that ends a document."""
    number = tokenizer.get_vocab().get(END_OF_TEXT)
    return int(tokenizer.eos_token_id if number is None else number)


def _segment(processor: Any, sequence: Encoded, text: Sequence[bool]) -> Segment:
    """text: of each id before expansion, whether it is a target."""
    trained = torch.tensor(spread(processor, sequence, [int(t) for t in text])).bool()
    trained[0] = False
    return Segment(sequence, trained, trained.float())
