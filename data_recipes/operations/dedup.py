"""Near-duplicate removal within a mixture: one row of each group is kept, and every removal names it.

Two rows are compared by their media (image_hashes.py finds, image_likeness.py judges) and by their text (text_hashes.py), and
rows with different true answers are different questions. Thresholds were chosen on one half of `python -m
benchmarks.data_dedup` and checked on the other; data_recipes/README.md has the figures.

Groups are made of pairs, whichever way they chain, with one exception. A copy so small that its labels cannot be read is a
near-duplicate of every figure that differs in its labels alone. Pairs of clearly different resolution therefore wait until all
others are joined. Then they are gone through, the closest first, and join their groups unless the sharpest images of the two
can be seen to differ. Which row of a group is kept depends on the order: the one of the source named first in `prefer`, then
the first.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from core.rows import Row
from data_recipes.operations import media_hashes
from data_recipes.operations.groups import Groups
from data_recipes.operations.media_hashes import Hashed, Thresholds
from data_recipes.operations.media_judge import MediaJudge, Medium, batched
from data_recipes.operations.near import NearIndex
from data_recipes.operations.text_hashes import answer, question
from data_recipes.records import Context, Decision, Options, SetOperation, Signature

ROWS_AT_ONCE = 256
"""Rows whose candidates are judged together, by all workers."""

SAME_RESOLUTION = 0.75
"""Images whose longest sides have at least this ratio are judged at the resolution of both."""

Signatures = Callable[[], Iterator[Signature]]


class NearOptions(Options):
    """When two rows are near-duplicates."""

    bits: int = Field(80, ge=0, le=96)
    """Perceptual hashes may differ in so many of 256 bits; of the images within them, the nearest 24 are compared."""
    correlation: float = Field(0.95, ge=-1, le=1)
    """Least correlation of the aligned thumbnails' fine structure."""
    worst_patch: float = Field(0.7, ge=-1, le=1)
    """Least correlation in any patch of a tenth of width and height: one thing moved or one number changed is seen here."""
    detail: float = Field(0.65, ge=-1, le=1)
    """Least correlation in any patch of 16 pixels of images on flat ground (tables, charts, screens), which are compared at up
    to 512 pixels a side: another number or label is seen here."""
    similarity: float = Field(0.7, ge=0, le=1)
    """Least Jaccard similarity of the texts' word 3-grams."""
    numbers: bool = True
    """Texts with different numbers, signs, operators or formulas are different questions."""

    def thresholds(self) -> Thresholds:
        return Thresholds(
            self.bits, self.correlation, self.worst_patch, self.detail, self.similarity, self.numbers
        )


class DedupOptions(NearOptions):
    """Remove near-duplicates within the mixture, keeping one row of each group."""

    mode: Literal["both", "media", "text"] = "both"
    """`both`: media and text must be near-duplicates, so one image may have many questions, and one question many images.
    `media`: the media alone, one row per image. `text`: the text alone, whatever the media. Rows without media are
    compared by text, with each other, in every mode."""
    text: Literal["question", "question_and_answer"] = "question"
    """What text is compared; with the answer and trace, several solutions of one question may stay."""
    answers: bool = True
    """Rows whose true answers are different values are different questions, in the modes `both` and `text`. Places and times
    are not compared: they depend on the size of the medium."""
    prefer: tuple[str, ...] = ()
    """Names of sources whose rows are kept before those of others, in this order."""


def sign(row: Row, options: DedupOptions) -> Mapping[str, Any]:
    text = question(row) if options.text == "question" else f"{question(row)}\n{answer(row)}"
    return media_hashes.hash_row(row, media=options.mode != "text", text=text)


def decide(signatures: Signatures, options: DedupOptions, context: Context) -> Iterator[Decision]:
    """Memory: 28 bytes a row and 0.2 KB an image, beside SQLite's cache."""
    path = context.folder / "near.sqlite"
    context.folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    index = NearIndex(path)
    try:
        groups = _store(signatures, options, index)
        with MediaJudge(index, options.thresholds(), context.workers) as judge:
            for some in batched(_rows_with_candidates(signatures, options, index, groups), ROWS_AT_ONCE):
                _join(some, index, groups, judge)
            _join_unsure(index, groups, judge)
            context.counts["pairs_of_media"] += judge.judged
        yield from _verdicts(signatures, options, index, groups, context)
    finally:
        index.close()
        path.unlink(missing_ok=True)


def _by_text(hashed: Hashed, options: DedupOptions) -> bool:
    """Whether this row is looked up by its text; its media do not matter then."""
    return options.mode == "text" or not hashed.media


def _by_answer(hashed: Hashed, options: DedupOptions) -> bool:
    """Whether rows with another true answer are another question."""
    return options.answers and (options.mode == "both" or _by_text(hashed, options))


def _store(signatures: Signatures, options: DedupOptions, index: NearIndex) -> Groups:
    """All rows into the index; the groups, in which rows that need no comparison are joined already."""
    groups = Groups()
    for no, signature in enumerate(signatures()):
        hashed = media_hashes.unpack(signature.data)
        by_text = _by_text(hashed, options)
        digest = media_hashes.digest(
            hashed,
            media=not by_text,
            text=by_text or options.mode == "both",
            answer=_by_answer(hashed, options),
        )
        index.add_name(no, signature.id)
        first = index.same(f"{'text' if by_text else 'media'} {digest}", no)
        groups.add(first)
        if first == no:
            index.add(
                no, signature.data, hashed, media=0 if by_text else 1, text=by_text, numbers=options.numbers
            )
        else:
            index.remember(no, first, "the same")
    return groups


@dataclass
class _Candidates:
    """A row, and the earlier ones that may be near-duplicates of it: (number, what their texts have in common)."""

    no: int
    media: list[tuple[str, tuple[int, ...]]] | None  # None: the texts alone are compared
    others: deque[tuple[int, str | None]]


def _rows_with_candidates(
    signatures: Signatures, options: DedupOptions, index: NearIndex, groups: Groups
) -> Iterator[_Candidates]:
    """Rows whose candidates have passed all that is quickly compared: their texts, answers and numbers of media."""
    limits = options.thresholds()
    for no, signature in enumerate(signatures()):
        if groups.root(no) != no:
            continue  # the same as an earlier row
        hashed = media_hashes.unpack(signature.data)
        by_text = _by_text(hashed, options)
        if by_text:
            near = index.texts_near(hashed.text, numbers=limits.numbers, before=no)
        else:
            numbers = hashed.text.numbers if options.mode == "both" and limits.numbers else None
            frames = [frame.hashes for frame in hashed.media[0].frames]
            near = [other for other, _ in index.entries_near(frames, limits.bits, numbers, before=no)]
        media = None if by_text else index.media(no)
        others: deque[tuple[int, str | None]] = deque()
        for other in near:
            reason = None
            if by_text or options.mode == "both":
                text, answer = index.text(other)
                if _by_answer(hashed, options) and hashed.answer and answer and hashed.answer != answer:
                    continue
                reason = media_hashes.texts_alike(hashed.text, text, limits)
                if reason is None:
                    continue
            if media is None or len(index.media(other)) == len(media):
                others.append((other, reason))
        if others:
            yield _Candidates(no, media, others)


def _join(rows: Sequence[_Candidates], index: NearIndex, groups: Groups, judge: MediaJudge) -> None:
    """Join the groups of these rows with those of their near-duplicates, or put a pair off if its resolutions differ.

    In rounds, so that media are judged many at a time: in each, the next candidate of every row that is not in its group yet.
    """
    while True:
        asked: list[tuple[_Candidates, int, str | None]] = []
        for row in rows:
            while row.others and groups.same(row.others[0][0], row.no):
                row.others.popleft()
            if row.others:
                asked.append((row, *row.others.popleft()))
        if not asked:
            return
        pairs = [
            list(zip(row.media, index.media(other))) if row.media is not None else []
            for row, other, _ in asked
        ]
        for (row, other, text), found in zip(asked, judge(pairs)):
            figures = [one.alike for one in found if one.alike is not None]
            if len(figures) < len(found):
                continue
            reason = "; ".join([*figures, *([text] if text else [])])
            if row.media is None or _same_resolution(index.sides(row.no), index.sides(other)):
                _join_two(row.no, other, reason, index, groups)
            else:
                index.put_off(row.no, other, min(one.closeness for one in found), reason)


def _same_resolution(ours: Sequence[int], theirs: Sequence[int]) -> bool:
    return all(min(pair) >= SAME_RESOLUTION * max(pair) for pair in zip(ours, theirs))


def _join_two(no: int, other: int, reason: str, index: NearIndex, groups: Groups) -> None:
    index.remember(no, other, reason)
    groups.join(no, other, lambda row: sum(index.sides(row)))


def _join_unsure(index: NearIndex, groups: Groups, judge: MediaJudge) -> None:
    """Join the pairs that were put off, except where the sharpest rows of their groups differ."""

    def sharpest(no: int, other: int) -> list[tuple[Medium, Medium]]:
        return list(zip(*(index.media(groups.sharpest(row)) for row in sorted((no, other)))))

    for some in batched(index.unsure(), ROWS_AT_ONCE):
        apart = [(no, other, reason) for no, other, reason in some if not groups.same(no, other)]
        judge([sharpest(no, other) for no, other, _ in apart])  # most of what follows, by all workers
        for no, other, reason in apart:
            if groups.same(no, other):
                continue
            (found,) = judge([sharpest(no, other)])
            if not any(one.differ for one in found):
                _join_two(no, other, reason, index, groups)


def _verdicts(
    signatures: Signatures, options: DedupOptions, index: NearIndex, groups: Groups, context: Context
) -> Iterator[Decision]:
    ranks = {source: rank for rank, source in enumerate(options.prefer)}
    last = len(ranks)
    kept = array("q", range(len(groups)))  # by root, the row that stays
    kept_rank = array("i", [last + 1]) * len(groups)
    for no, signature in enumerate(signatures()):
        group, rank = groups.root(no), ranks.get(signature.source, last)
        if rank < kept_rank[group]:
            kept[group], kept_rank[group] = no, rank
    for no, signature in enumerate(signatures()):
        keeper = kept[groups.root(no)]
        if keeper == no:
            continue
        context.counts["removed"] += 1
        other, reason = index.remembered(no)
        by_text = options.mode == "text" or not signature.data["media"]
        kind = "text" if by_text else signature.data["media"][0]["kind"]
        rule = f"{kind}_and_text_duplicate" if options.mode == "both" and not by_text else f"{kind}_duplicate"
        through = "" if other == keeper else f" of {index.name(other)!r}, which is in the group"
        yield Decision(signature.id, rule, f"near-duplicate{through}: {reason}", index.name(keeper))


OPERATIONS = {"dedup": SetOperation(sign, decide, DedupOptions)}
