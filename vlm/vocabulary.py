"""The vocabulary of an assembled model: vision tokens, new embedding rows, tokenizer, chat template."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlm.checkpoint import CheckpointError, check_tokenizer

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
PAD_TOKEN = "<|endoftext|>"  # used only if the language model has no padding token

_ROUND_ROWS_TO = (
    64  # an extended vocabulary is rounded up to a multiple that tensor-parallel engines can split
)
_CHUNK_ROWS = 4096

CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text()


@dataclass(frozen=True)
class Vocabulary:
    """A language model's tokenizer, extended by chat and vision tokens."""

    tokenizer: Any  # transformers' fast tokenizer, extended
    chat_template: str
    size: int  # rows of the embedding; at least as many as the source's
    added: tuple[str, ...]  # tokens the source's tokenizer lacked, in the order of their new ids

    def id(self, token: str) -> int:
        """Id of a token of the vocabulary."""
        return self.tokenizer.convert_tokens_to_ids(token)


def extend_vocabulary(language: Path, config: Any) -> Vocabulary:
    """The language model's tokenizer with every chat and vision token as a single token.

    language, config: the model's folder and transformers config. Existing tokens keep their ids. New ones get the ids
    after the last, which may be padding rows of the embedding; these rows are not changed. <|im_end|> becomes the
    end-of-sequence token, as in Qwen2.5-VL. If the tokenizer prepends a begin-of-sequence token to every text (Llama),
    the token moves into the chat template: prompts are rendered by the template and tokenised without special tokens, so
    it appears exactly once.
    """
    from transformers import AddedToken, AutoTokenizer

    rows = config.vocab_size
    check_tokenizer(language)
    try:
        # pass the config, because loading MiMo's own would ask whether to run its code
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
    # Existing tokens are included: in some base models they are not special, so the tokenizer would split them.
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
    """Stop the tokenizer from adding tokens to a text; True if it used to prepend its begin-of-sequence token."""
    plain, wrapped = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    if wrapped == plain:
        return False
    if wrapped != [tokenizer.bos_token_id, *plain]:
        raise CheckpointError(
            f"{language}: its tokenizer turns {plain} into {wrapped}; only one begin-of-sequence token before a text"
            " is supported"
        )
    from tokenizers import processors

    if hasattr(tokenizer, "add_bos_token"):
        tokenizer.add_bos_token = False
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    return True


def extend_rows(rows: torch.Tensor, size: int, *, name: str, seed: int) -> torch.Tensor:
    """Extend a matrix (V, H) to `size` rows; the first V are copied bit for bit.

    A new row is the mean of all old rows plus Gaussian noise of a tenth of their standard deviation (per column). In the
    LM head, a mean row gives about the mean logit, so new tokens take little probability from old ones; the noise makes
    them distinct. It depends only on `seed` and the tensor's `name`.
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
