"""Loaded reward models, which score responses to prompts. One protocol, four kinds:

- `Packed`: a checkpoint of `reward_model.py`; responses to one prompt share it, images included, as in training.
- `Pooling`: the same checkpoint in vLLM's pooling runner (`reward_models/pooling.py`).
- `Classifier`: any other text sequence classifier of transformers with one label (Skywork-Reward, or a DeBERTa).
- `Adapted`: anything else, through a function of the user's (`reward_models/adapters.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoTokenizer

from core.rows import Row
from reward_models.card import Card, read_card
from reward_models.encoding import text_ids
from reward_models.forward import packed_scores
from reward_models.model import load_reward_model
from reward_models.packing import response_tree
from reward_models.questions import Question, ResponseError, Verdict
from reward_models.template import Template, refuse_long
from vlm.checkpoint import resolve_checkpoint
from vlm.inputs import check_texts
from vlm.load import context_length
from vlm.media import load_media
from vlm.packed.filling import fill
from vlm.packed.packing import pack


class Scorer(Protocol):
    """A loaded reward model. card: how scores become rewards."""

    card: Card

    def check_prompt(self, row: Row) -> None:
        """Raise ValueError for a row whose prompt the model cannot be asked about."""
        ...

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per question, in order. Raises ValueError as `check_prompt`."""
        ...


class Packed:
    """A checkpoint of `reward_model.py`, in transformers. max_tokens: that go through the model at a time."""

    def __init__(self, folder: Path, *, device: str, dtype: str, max_tokens: int) -> None:
        self.template = Template.of(folder)
        self.card, self.max_tokens = self.template.card, max_tokens
        self.model = load_reward_model(folder, dtype, device)

    def check_prompt(self, row: Row) -> None:
        self.template.prompt(row)

    @torch.no_grad()
    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        asked, refused = self.template.ask(questions)
        verdicts: dict[int, Verdict] = dict(refused)
        lengths = [(len(one.prompt), [len(ids) for ids in one.ids]) for one in asked]
        for parts in fill(lengths, self.max_tokens):
            trees = [response_tree(asked[g].prompt, [asked[g].ids[i] for i in some]) for g, some in parts]
            places = [asked[g].places[i] for g, some in parts for i in some]
            verdicts |= zip(places, packed_scores(self.model, pack(trees)).tolist(), strict=True)
        return [verdicts[i] for i in range(len(questions))]


class Classifier:
    """A text sequence classifier of transformers with one label, asked in its own chat template, as its authors do; one without
    a template reads question and answer as a pair of texts.

    batch: sequences that go through the model at a time, padded.
    """

    def __init__(self, folder: Path, *, device: str, dtype: str, batch: int = 16) -> None:
        self.card, self.device, self.batch = Card("text", max_tokens=context_length(folder)), device, batch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = load_reward_model(folder, dtype, device)

    def check_prompt(self, row: Row) -> None:
        self._ids(Question(row, "a"))

    @torch.no_grad()
    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        encoded: dict[int, list[int]] = {}
        for i, question in enumerate(questions):
            try:
                text_ids(self.tokenizer, question.response)
                encoded[i] = self._ids(question)
                refuse_long(len(encoded[i]), self.card.max_tokens)
            except ResponseError as error:
                verdicts[i] = error
        order = sorted(encoded.keys() - verdicts.keys(), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), self.batch):
            places = order[start : start + self.batch]
            verdicts |= zip(places, self._forward([encoded[i] for i in places]), strict=True)
        return [verdicts[i] for i in range(len(questions))]

    def _ids(self, question: Question) -> list[int]:
        row, tokenizer = question.row, self.tokenizer
        if row.get("images") or row.get("videos"):
            raise ValueError("expected text alone (the reward model reads no media), got a row with media")
        check_texts(tokenizer, row["prompt"])
        turns = [{"role": m["role"], "content": _joined(m["content"])} for m in row["prompt"]]
        if tokenizer.chat_template is None:
            if len(turns) != 1:
                raise ValueError(
                    f"expected one question (the reward model has no chat template), got {len(turns)} messages"
                )
            return tokenizer(turns[0]["content"], question.response)["input_ids"]
        answer = {"role": "assistant", "content": question.response}
        text = tokenizer.apply_chat_template([*turns, answer], tokenize=False)
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has them already

    def _forward(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        longest = max(map(len, sequences))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.full((len(sequences), longest), pad)
        mask = torch.zeros_like(ids)
        for i, sequence in enumerate(sequences):
            ids[i, : len(sequence)] = torch.tensor(sequence)
            mask[i, : len(sequence)] = 1
        out = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        return out.logits[:, 0].float().tolist()


class Adapted:
    """A reward model behind a function: `score(messages, images, response) -> float`; one with the attribute `many` scores a list
    of these three at once. What it raises is a failure of the rollouts concerned."""

    def __init__(self, score: Callable[..., float]) -> None:
        self.card, self._score = Card("multimodal"), score

    def check_prompt(self, row: Row) -> None:
        if row.get("videos"):
            raise ValueError("expected text and images (adapters take no videos), got a row with videos")

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {
            i: ResponseError("empty", "expected a text that is not empty")
            for i, question in enumerate(questions)
            if not question.response.strip()
        }
        places = [i for i in range(len(questions)) if i not in verdicts]
        for i in places:
            self.check_prompt(questions[i].row)
        asked = [(q.row["prompt"], load_media(q.row)[0], q.response) for q in (questions[i] for i in places)]
        many: Any = getattr(self._score, "many", None)
        scores = many(asked) if many else [self._score(*one) for one in asked]
        verdicts |= zip(places, map(float, scores), strict=True)
        return [verdicts[i] for i in range(len(questions))]


def load_scorer(
    path: str,
    *,
    device: str,
    dtype: str = "float32",
    engine: str = "transformers",
    max_tokens: int = 16384,
    adapter: Callable[..., Callable[..., float]] | None = None,
) -> Scorer:
    """The reward model in a folder (or a Hub id in the local cache), by what it is. Raises CheckpointError."""
    if adapter is not None:
        return Adapted(adapter(path, device=device, dtype=dtype))
    folder = resolve_checkpoint(path)
    if engine == "vllm":
        from reward_models.pooling import Pooling  # vLLM takes seconds to import

        return Pooling(folder, dtype=dtype, max_tokens=max_tokens)
    if read_card(folder) is not None:
        return Packed(folder, device=device, dtype=dtype, max_tokens=max_tokens)
    return Classifier(folder, device=device, dtype=dtype)


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
