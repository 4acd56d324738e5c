"""Rows of each step, encoded and packed ahead of the training, by worker processes where there are any."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import Dataset
from tqdm import tqdm

from core.rows import Row
from sft.augmentation.augmenter import Augmented
from sft.data import Example, encode_example, pack_pixels, palette_of, prompt_media, unpack_pixels
from sft.packing import MicroBatch, micro_batches
from sft.supervised.run import read_ahead
from vlm.packed.layout import DummyMedia


@dataclass(frozen=True)
class StepRows:
    """What a process computes in a step.

    targets: tokens with a loss. tokens: of all rows, each as if alone; computed: that go through the model, what rows
    share once. left_out: indices of rows that turned out to be unusable. augmented: what was done to images (COUNTS).
    """

    batches: list[MicroBatch]
    targets: int
    tokens: int
    computed: int
    left_out: list[int]
    augmented: Counter[str]


class Encoder:
    """Rows as examples, encoded when they are asked for. cache: encoded rows stay in memory (in every worker)."""

    def __init__(self, processor: Any, rows: Sequence[Row], *, max_frames: int, cache: bool = False) -> None:
        self.processor, self.rows, self.max_frames = processor, rows, max_frames
        self._palette = palette_of(processor)
        self._cache: dict[int, Example] | None = {} if cache else None

    def __call__(self, index: int) -> Example:
        """Row `index`. Raises ValueError if it turns out to be unusable."""
        if self._cache is None:
            return encode_example(self.processor, self.rows[index], max_frames=self.max_frames)
        if index not in self._cache:
            example = encode_example(self.processor, self.rows[index], max_frames=self.max_frames)
            self._cache[index] = pack_pixels(example, self._palette)
        return unpack_pixels(self._cache[index], self._palette)

    def augmented(self, index: int, changed: Augmented) -> Example:
        """Row `index` as changed. Examples share what is about the same media, changed in the same way."""
        if not changed.done:
            return self(index)
        example = encode_example(self.processor, changed.row, max_frames=self.max_frames)
        media = tuple((kind, (name, changed.done)) for kind, name in prompt_media(self.rows[index]))
        return replace(example, media=media)


class Steps(Dataset):
    """The rows of each step, packed.

    rows_of: indices of this process's rows in a step. A row that turns out to be unusable (its file has changed since
    the start) is left out and named. dummy: the media that every micro-batch must hold. augment: what becomes of row
    `index` in a step; None: nothing.
    """

    def __init__(
        self,
        encoder: Encoder,
        rows_of: Callable[[int], list[int]],
        max_tokens: int,
        dummy: DummyMedia | None,
        augment: Callable[[int, int], Augmented] | None = None,
    ) -> None:
        self.encoder, self.rows_of, self.max_tokens, self.dummy = encoder, rows_of, max_tokens, dummy
        self.augment = augment

    def __getitem__(self, step: int) -> StepRows:
        examples, left_out, augmented = [], [], Counter[str]()
        for index in self.rows_of(step):
            try:
                if self.augment is None:
                    examples.append(self.encoder(index))
                else:
                    changed = self.augment(index, step)
                    examples.append(self.encoder.augmented(index, changed))
                    augmented.update(changed.counts)
            except ValueError as error:
                left_out.append(index)
                tqdm.write(f"left out: {error}", file=sys.stderr)  # by the process that encodes
        batches = micro_batches(examples, self.max_tokens, self.dummy)
        return StepRows(
            batches=batches,
            targets=sum(len(batch.stages) for batch in batches),
            tokens=sum(map(len, examples)),
            computed=sum(batch.packed.layout.total for batch in batches),
            left_out=left_out,
            augmented=augmented,
        )

    def read(self, steps: range, workers: int) -> Iterator[StepRows]:
        """The rows of these steps in order."""
        return read_ahead(self, steps, workers)
