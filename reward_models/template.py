"""Questions to a trained reward model, in its own template: which of them can be asked, and as what tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.rows import Row
from reward_models.card import Card, read_card
from reward_models.encoding import encode_prompt, processor_of, prompt_key, text_ids
from reward_models.questions import Question, ResponseError
from vlm.checkpoint import CheckpointError
from vlm.inputs import Encoded
from vlm.load import CheckpointConfig, context_length


@dataclass(frozen=True)
class Asked:
    """A prompt and the responses to it that can be scored: their numbers among the questions, and their token ids."""

    prompt: Encoded
    places: list[int]
    ids: list[tuple[int, ...]]


@dataclass(frozen=True)
class Template:
    """The template of a checkpoint of `reward_model.py`. longest: sequence in tokens; None: no limit."""

    processor: Any
    card: Card
    longest: int | None

    @classmethod
    def of(cls, folder: Path) -> Template:
        """Raises CheckpointError for a folder that `reward_model.py` has not written."""
        card = read_card(folder)
        if card is None:
            raise CheckpointError(
                f"{folder}: expected a checkpoint of reward_model.py, which holds a reward_model.json"
            )
        processor = processor_of(card.kind, CheckpointConfig(path=str(folder)), folder)
        return cls(processor, card, card.max_tokens or context_length(folder))

    def prompt(self, row: Row) -> Encoded:
        """Raises ValueError for a prompt that the template cannot hold."""
        prompt = encode_prompt(self.processor, row, max_frames=self.card.max_frames)
        if self.longest is not None and len(prompt) + 2 > self.longest:  # a token and the end
            raise ValueError(
                f"row {row.get('id')!r}: field 'prompt': expected room for a response within the reward model's"
                f" {self.longest} tokens, got a prompt of {len(prompt)}"
            )
        return prompt

    def ask(self, questions: Sequence[Question]) -> tuple[list[Asked], dict[int, ResponseError]]:
        """The questions by prompt, each prompt encoded once, and what is wrong with responses that cannot be asked about."""
        members: dict[Hashable, list[int]] = {}
        for number, question in enumerate(questions):
            members.setdefault(prompt_key(question.row), []).append(number)
        asked, refused = [], {}
        for places in members.values():
            one = Asked(self.prompt(questions[places[0]].row), [], [])
            for place in places:
                try:
                    ids = self._response(questions[place].response, len(one.prompt))
                    one.places.append(place)
                    one.ids.append(ids)
                except ResponseError as error:
                    refused[place] = error
            if one.places:
                asked.append(one)
        return asked, refused

    def _response(self, text: str, prompt: int) -> tuple[int, ...]:
        ids = text_ids(self.processor.tokenizer, text)
        refuse_long(prompt + len(ids), self.longest)
        return ids


def refuse_long(tokens: int, longest: int | None) -> None:
    """Raise ResponseError for more tokens than the model takes."""
    if longest is not None and tokens > longest:
        raise ResponseError(
            "too_long", f"expected at most {longest} tokens of prompt and response, got {tokens}"
        )
