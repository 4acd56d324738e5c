"""Near-duplicates within a mixture: grouped, and of each group one kept, which is named in every removal.

Two rows are compared by their media (perceptual hashes, then aligned thumbnails: image_hashes.py) and by their text
(MinHash and numbers: text_hashes.py). Thresholds were chosen on one half of `python -m benchmarks.data_dedup` and
checked on the other: of 3,514 re-encoded, resized, cropped (up to 10 % at each side) and recoloured copies 98.8 % are in
the group of their base, 99.3 % of the pairs in one group belong there. Of look-alikes, 1 of 20 tables with other numbers
is taken for a copy and no chart, scene or page, but half of the geometry figures with other labels: what a thumbnail of
96 x 96 pixels hardly shows is beyond the media check. The mode `both` asks for the same question with the same numbers
too.

Groups are the unions of pairs, whichever way they chain. The rows of a group do not depend on their order; which one is
kept does: the one of the source named first in `prefer`, then the first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from data_recipes.operations import media_hashes
from data_recipes.operations.media_hashes import Hashed, Thresholds
from data_recipes.operations.near import NearIndex
from data_recipes.operations.text_hashes import answer, question
from data_recipes.records import Context, Decision, Options, SetOperation, Signature
from vlm.rows import Row

FEW_TEXTS = 64
"""In mode `both`, rows whose text is near that of so many others are looked up by their media."""

Signatures = Callable[[], Iterator[Signature]]


class NearOptions(Options):
    """When two rows are near-duplicates."""

    bits: int = Field(14, ge=0, le=24)
    """Perceptual hashes may differ in so many of 64 bits. All pairs within 7 are looked at; farther ones are where one
    of four bands differs in at most one bit."""
    correlation: float = Field(0.95, ge=-1, le=1)
    """Least correlation of the aligned thumbnails' fine structure."""
    worst_patch: float = Field(0.8, ge=-1, le=1)
    """Least correlation in any patch of a tenth of width and height: one thing moved or one number changed is seen here."""
    similarity: float = Field(0.7, ge=0, le=1)
    """Least Jaccard similarity of the texts' word 3-grams."""
    numbers: bool = True
    """Texts that name different numbers are different questions."""

    def thresholds(self) -> Thresholds:
        return Thresholds(self.bits, self.correlation, self.worst_patch, self.similarity, self.numbers)


class DedupOptions(NearOptions):
    """Near-duplicates within the mixture leave, but one of each group."""

    mode: Literal["both", "media", "text"] = "both"
    """`both`: media and text must be near-duplicates, so one image may have many questions, and one question many images.
    `media`: the media alone, one row per image. `text`: the text alone, whatever the media. Rows without media are
    compared by text, with each other, in every mode."""
    text: Literal["question", "question_and_answer"] = "question"
    """What text is compared; with the answer and trace, several solutions of one question may stay."""
    prefer: tuple[str, ...] = ()
    """Names of sources whose rows are kept before those of others, in this order."""


def sign(row: Row, options: DedupOptions) -> Mapping[str, Any]:
    text = question(row) if options.text == "question" else f"{question(row)}\n{answer(row)}"
    return media_hashes.hash_row(row, media=options.mode != "text", text=text)


def decide(signatures: Signatures, options: DedupOptions, context: Context) -> Iterator[Decision]:
    """Memory: 12 bytes a row beside SQLite's cache."""
    path = context.folder / "near.sqlite"
    context.folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    index = NearIndex(path)
    try:
        groups = _store(signatures, options, index)
        _join(signatures, options, index, groups, context)
        yield from _verdicts(signatures, options, index, groups, context)
    finally:
        index.close()
        path.unlink(missing_ok=True)


def _by_text(hashed: Hashed, options: DedupOptions) -> bool:
    """Whether this row is looked up by its text; its media do not matter then."""
    return options.mode == "text" or not hashed.media


def _store(signatures: Signatures, options: DedupOptions, index: NearIndex) -> array[int]:
    """All rows into the index; the forest of groups, in which rows that need no comparison are joined already."""
    groups = array("q")
    for no, signature in enumerate(signatures()):
        hashed = media_hashes.unpack(signature.data)
        by_text = _by_text(hashed, options)
        digest = media_hashes.digest(hashed, media=not by_text, text=by_text or options.mode == "both")
        index.add_name(no, signature.id)
        first = index.same(f"{'text' if by_text else 'media'} {digest}", no)
        groups.append(first)
        if first == no:
            index.add(no, signature.data, hashed, media=0 if by_text else 1, text=by_text)
            if options.mode == "both" and not by_text:
                index.add_text_of_media(no, hashed.text)
        else:
            index.remember(no, first, "the same")
    return groups


def _join(
    signatures: Signatures, options: DedupOptions, index: NearIndex, groups: array[int], context: Context
) -> None:
    """Join the groups of all pairs that are near-duplicates."""
    limits = options.thresholds()
    for no, signature in enumerate(signatures()):
        if groups[no] != no and not index.has(no):
            continue  # the same as an earlier row
        hashed = media_hashes.unpack(signature.data)
        candidates: list[int] | None = None
        if _by_text(hashed, options):
            candidates = index.texts_near(hashed.text)
        elif options.mode == "both":  # texts are looked up several times as fast as images and their windows
            candidates = index.media_with_text_near(hashed.text, FEW_TEXTS)
        if candidates is None:
            numbers = hashed.text.numbers if options.mode == "both" and limits.numbers else None
            frames = hashed.media[0].frames
            candidates = sorted({n for f in frames for n, _ in index.images_near(f, limits.bits, numbers)})
        for other in candidates:
            if root(groups, other) == root(groups, no) or not index.first_time(no, other):
                continue
            reason = _alike(hashed, other, index, options, limits, context)
            if reason is not None:
                index.remember(no, other, reason)
                a, b = sorted((root(groups, no), root(groups, other)))
                groups[b] = a


def _alike(
    hashed: Hashed,
    other: int,
    index: NearIndex,
    options: DedupOptions,
    limits: Thresholds,
    context: Context,
) -> str | None:
    """The figures in words if two rows are near-duplicates; texts first, as they are quickly compared."""
    by_text = _by_text(hashed, options)
    context.counts["pairs_of_texts" if by_text or options.mode == "both" else "pairs_of_media"] += 1
    reasons = []
    if by_text or options.mode == "both":
        reason = media_hashes.texts_alike(hashed.text, index.text(other), limits)
        if reason is None or by_text:
            return reason
        reasons.append(reason)
        context.counts["pairs_of_media"] += 1
    media = index.media(other)
    if len(media) != len(hashed.media):
        return None
    for ours, theirs in zip(hashed.media, media):
        reason = media_hashes.media_alike(ours, theirs, limits)
        if reason is None:
            return None
        reasons.insert(0, reason)
    return "; ".join(reasons)


def root(groups: array[int], no: int) -> int:
    """The lowest number in the group; paths are halved on the way."""
    while groups[no] != no:
        groups[no] = groups[groups[no]]
        no = groups[no]
    return no


def _verdicts(
    signatures: Signatures, options: DedupOptions, index: NearIndex, groups: array[int], context: Context
) -> Iterator[Decision]:
    ranks = {source: rank for rank, source in enumerate(options.prefer)}
    last = len(ranks)
    kept = array("q", groups)  # by root, the row that stays
    kept_rank = array("i", [last + 1]) * len(groups)
    for no, signature in enumerate(signatures()):
        group, rank = root(groups, no), ranks.get(signature.source, last)
        if rank < kept_rank[group]:
            kept[group], kept_rank[group] = no, rank
    for no, signature in enumerate(signatures()):
        keeper = kept[root(groups, no)]
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
