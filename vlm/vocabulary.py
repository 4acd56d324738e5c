"""The vocabulary of an assembled model: vision tokens, new rows of the embedding, tokenizer, chat template."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlm.checkpoint import CheckpointError, check_tokenizer

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
PAD_TOKEN = "<|endoftext|>"  # only where the language model brings no padding token of its own

_ROUND_ROWS_TO = 64  # rows of an extended vocabulary: a multiple that tensor-parallel engines can split
_CHUNK_ROWS = 4096

CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text()


@dataclass(frozen=True)
class Vocabulary:
    """What a language model's tokenizer becomes."""

    tokenizer: Any  # transformers' fast tokenizer, extended
    chat_template: str
    size: int  # rows of the embedding; at least the source's
    added: tuple[str, ...]  # tokens the source's tokenizer lacked, in order of their new ids

    def id(self, token: str) -> int:
        """Id of a token that is in the vocabulary."""
        return self.tokenizer.convert_tokens_to_ids(token)


def extend_vocabulary(language: Path, config: Any) -> Vocabulary:
    """The tokenizer of the language model (folder and transformers config) with each chat and vision token as one token.

    Tokens it already has keep their ids. New ones get the ids after its last, which may fall on rows that the model
    keeps as padding: such rows stay as they are. The turn's end, <|im_end|>, becomes the end-of-sequence token, as in
    Qwen2.5-VL. A begin-of-sequence token that the tokenizer used to put before every text (Llama) moves into the
    chat template: prompts are written by the template and tokenised without additions, so it appears exactly once.
    """
    from transformers import AddedToken, AutoTokenizer

    rows = config.vocab_size
    check_tokenizer(language)
    try:
        # the config is given, because reading MiMo's own would ask whether to run its code
        tokenizer = AutoTokenizer.from_pretrained(language, config=config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{language}: the language model's tokenizer cannot be loaded ({error})"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"{language}: expected a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}"
        )
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{language}: its tokenizer has {len(tokenizer)} tokens, its embedding only {rows} rows"
        )
    bos = _take_bos(tokenizer, language)
    known = tokenizer.get_vocab()
    wanted: tuple[str, ...] = CHAT_TOKENS + VISION_TOKENS
    if tokenizer.pad_token is None or tokenizer.pad_token == "<|im_end|>":
        wanted += (PAD_TOKEN,)
    added = tuple(token for token in wanted if token not in known)
    # tokens that exist are given too: in some base models they are ordinary vocabulary, which text is split into
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in wanted], special_tokens=True)
    if PAD_TOKEN in wanted:
        tokenizer.pad_token = PAD_TOKEN
    tokenizer.eos_token = "<|im_end|>"
    for token in wanted:
        ids = tokenizer.encode(token, add_special_tokens=False)
        if ids != [tokenizer.convert_tokens_to_ids(token)]:
            raise CheckpointError(f"{language}: its tokenizer splits the special token {token} into {ids}")
    last = max(tokenizer.get_vocab().values())
    size = rows if last < rows else -(-(last + 1) // _ROUND_ROWS_TO) * _ROUND_ROWS_TO
    template = ("{{- bos_token -}}" if bos else "") + CHAT_TEMPLATE
    tokenizer.chat_template = template
    return Vocabulary(tokenizer=tokenizer, chat_template=template, size=size, added=added)


def _take_bos(tokenizer: Any, language: Path) -> bool:
    """Stop the tokenizer from adding tokens around a text; True if what it added was its begin-of-sequence token."""
    plain, wrapped = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    if wrapped == plain:
        return False
    if wrapped != [tokenizer.bos_token_id, *plain]:
        raise CheckpointError(
            f"{language}: its tokenizer turns {plain} into {wrapped}; only one begin-of-sequence token before a text"
            " can be carried over"
        )
    from tokenizers import processors

    if hasattr(tokenizer, "add_bos_token"):
        tokenizer.add_bos_token = False
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    return True


def extend_rows(rows: torch.Tensor, size: int, *, name: str, seed: int) -> torch.Tensor:
    """Matrix (V, H) with new rows up to `size`; the first V are copied bit for bit.

    A new row is the mean of all old rows plus Gaussian noise of a tenth of their standard deviation (per column): in
    the LM head, a mean row scores near the mean logit, so new tokens do not take probability from old ones; the noise
    makes them distinct. The noise depends on `seed` and the tensor's `name` only.
    """
    old = rows.shape[0]
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, old, _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS].double()
        total += chunk.sum(0)
        squares += chunk.square().sum(0)
    mean = total / old
    std = (squares / old - mean.square()).clamp_min(0).sqrt()
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    noise = torch.randn(size - old, rows.shape[1], generator=generator, dtype=torch.float64)
    extended = torch.empty(size, rows.shape[1], dtype=rows.dtype)
    extended[:old] = rows
    extended[old:] = (mean + 0.1 * std * noise).to(rows.dtype)
    return extended
