"""A tiny VLM with random weights, for laptops, tests and the demo.

`python -m vlm.tiny OUT [--corpus FILE.txt]` builds one in seconds. Except for its size it is a Qwen2.5-VL: the same
model class, vision tower with window attention, 2x2 merger, M-RoPE, chat format and processor.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text()
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
PIXELS_PER_TOKEN = 28 * 28
# M-RoPE assigns the lowest frequencies to the width. With heads this narrow and the usual base of 10,000 they could not
# distinguish neighbouring columns; contexts are short here, so a small base has no drawback.
ROPE_THETA = 20.0
# Splits digits one by one (as Qwen does) and keeps stage tags, words (also red-circle), punctuation and names of cells (b2)
# whole, with their leading space.
WORD_PATTERN = r"</?[A-Z]+>| ?[A-Za-z]\d(?!\d)|\d| ?[A-Za-z]+(?:-[A-Za-z]+)*| ?[^A-Za-z\d\s]|\s"


def build_tokenizer(corpus: Iterable[str], vocabulary_size: int = 768) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `corpus`, with Qwen2.5-VL's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus, "system user assistant"], trainer)
    # Not Qwen2TokenizerFast: that class always splits text by Qwen's own pattern.
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None
    )
    wrapped.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS[1:]})
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_processor(
    tokenizer: PreTrainedTokenizerFast, *, max_visual_tokens: int = 64
) -> Qwen2_5_VLProcessor:
    """Processor that does not resize images and frames of one to `max_visual_tokens` visual tokens (28 x 28 px each)."""
    size = {"shortest_edge": PIXELS_PER_TOKEN, "longest_edge": max_visual_tokens * PIXELS_PER_TOKEN}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=size),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_config(
    tokenizer: PreTrainedTokenizerFast, *, hidden: int = 128, layers: int = 4
) -> Qwen2_5_VLConfig:
    """Config of a model of about 1 to 3 M parameters; heads are 32 wide."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    vision_hidden = max(64, hidden // 2)
    # The usual standard deviation of 0.02 is too small for a model of this width.
    initializer_range = hidden**-0.5
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": 3 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 32,
            "num_key_value_heads": max(1, hidden // 64),
            "vocab_size": (len(tokenizer) + 63) // 64 * 64,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": ROPE_THETA},
            "bos_token_id": None,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "tie_word_embeddings": True,
            "initializer_range": initializer_range,
        },
        vision_config={
            "initializer_range": initializer_range / 2,
            "depth": 2,
            "hidden_size": vision_hidden,
            "intermediate_size": 2 * vision_hidden,
            "num_heads": vision_hidden // 32,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1],
            "window_size": 112,
            "tokens_per_second": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build_tiny_vlm(
    out_dir: str | Path, corpus: Iterable[str], *, hidden: int = 128, layers: int = 4, seed: int = 0
) -> Path:
    """Write a random tiny VLM (float32) with processor and tokenizer to `out_dir`, and return it.

    corpus: texts to train the tokenizer on. hidden: a multiple of 64. seed: random seed for the weights.
    """
    if hidden % 64:
        raise ValueError(
            f"hidden must be a multiple of 64 (heads are 32 wide, two per key head), got {hidden}"
        )
    out_dir = Path(out_dir)
    tokenizer = build_tokenizer(corpus)
    config = tiny_config(tokenizer, hidden=hidden, layers=layers)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    model.save_pretrained(out_dir)
    build_processor(tokenizer).save_pretrained(out_dir)
    return out_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, help="text file to train the tokenizer on, one text per line")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus = (
        args.corpus.read_text(encoding="utf-8").removesuffix("\n").split("\n") if args.corpus else [__doc__]
    )
    out = build_tiny_vlm(args.out, corpus, hidden=args.hidden, layers=args.layers, seed=args.seed)
    print(f"tiny VLM written to {out}")


if __name__ == "__main__":
    main()
