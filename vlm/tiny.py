"""A tiny VLM with random weights, for laptops, tests and the demo.

`python -m vlm.tiny OUT [--family qwen3_vl] [--corpus FILE.txt]` builds one in seconds. Except for its size it is a model
of the family: the same class, vision tower (with window attention, DeepStack or tiles), 2x2 merger, positions, chat format and
processor.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3VLConfig,
    Qwen3VLVideoProcessor,
)

from vlm.families import DEFAULT_FAMILY, FAMILIES

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
INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": FAMILIES["internvl"].image_token,
    "video_token": FAMILIES["internvl"].video_token,
}
INTERNVL_TILE = 56
"""Side in pixels: four patches, two visual tokens."""
LONGEST_CLIP = (
    64  # frames of a clip that Qwen3-VL's video processor does not shrink: its limits are of whole clips
)
# M-RoPE assigns the lowest frequencies to the width. With heads this narrow and the usual base of 10,000 they could not
# distinguish neighbouring columns. The drawback of a small base: what lies some 30 positions back is hard to find by its content,
# since even the lowest frequency has turned by a radian or two.
ROPE_THETA = 20.0
# Splits digits one by one (as Qwen does) and keeps stage tags, words (also red-circle), punctuation and names of cells (b2)
# whole, with their leading space.
WORD_PATTERN = r"</?[A-Z]+>| ?[A-Za-z]\d(?!\d)|\d| ?[A-Za-z]+(?:-[A-Za-z]+)*| ?[^A-Za-z\d\s]|\s"


def build_tokenizer(
    corpus: Iterable[str], vocabulary_size: int = 768, *, family: str = DEFAULT_FAMILY
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `corpus`, with the family's special tokens."""
    named = INTERNVL_TOKENS if family == "internvl" else {}
    special = SPECIAL_TOKENS[:3] + list(named.values()) if named else SPECIAL_TOKENS
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
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus, "system user assistant"], trainer)
    # Not Qwen2TokenizerFast: that class always splits text by Qwen's own pattern.
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None, **named
    )
    wrapped.add_special_tokens({"additional_special_tokens": special[1:]})
    wrapped.chat_template = chat_template(family)
    return wrapped


def build_processor(
    tokenizer: PreTrainedTokenizerFast, *, family: str = DEFAULT_FAMILY, max_visual_tokens: int = 64
) -> ProcessorMixin:
    """Processor that does not resize images and frames of one to `max_visual_tokens` visual tokens, if their sides are
    multiples of the family's factor (28 or 32 px)."""
    one_token = FAMILIES[family].factor ** 2
    size = {"shortest_edge": one_token, "longest_edge": max_visual_tokens * one_token}
    images, videos = Qwen2VLImageProcessor(size=size), Qwen2VLVideoProcessor(size=size)
    if family == "internvl":
        return _internvl_processor(tokenizer)
    if family in ("qwen3_vl", "qwen3_5"):
        half = [0.5, 0.5, 0.5]
        images = Qwen2VLImageProcessor(size=size, patch_size=16, image_mean=half, image_std=half)
        clips = {**size, "longest_edge": LONGEST_CLIP * size["longest_edge"]}
        videos = Qwen3VLVideoProcessor(size=clips, image_mean=half, image_std=half)
    return FAMILIES[family].processor_class()(
        image_processor=images, video_processor=videos, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )


def chat_template(family: str) -> str:
    """The family's placeholders in one and the same template."""
    qwens = {
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
        "video": "<|vision_start|><|video_pad|><|vision_end|>",
    }
    if family != "internvl":
        return CHAT_TEMPLATE
    template = CHAT_TEMPLATE.replace(qwens["image"], FAMILIES[family].image_token + "\n")
    return template.replace(qwens["video"], FAMILIES[family].video_token + "\n")


def _internvl_processor(tokenizer: PreTrainedTokenizerFast) -> ProcessorMixin:
    """Up to four tiles of 4 visual tokens, and the whole image as one more."""
    size = {"height": INTERNVL_TILE, "width": INTERNVL_TILE}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4),
        video_processor=InternVLVideoProcessor(size=size),
        tokenizer=tokenizer,
        image_seq_length=(INTERNVL_TILE // 28) ** 2,
        chat_template=chat_template("internvl"),
    )


def tiny_config(
    tokenizer: PreTrainedTokenizerFast,
    *,
    family: str = DEFAULT_FAMILY,
    hidden: int = 128,
    layers: int = 4,
    rope_theta: float = ROPE_THETA,
) -> PreTrainedConfig:
    """Config of a model of about 1 to 3 M parameters; heads are 32 wide."""
    ids = {
        token: tokenizer.convert_tokens_to_ids(token)
        for token in SPECIAL_TOKENS
        if token in tokenizer.get_vocab()
    }
    vision_hidden = max(64, hidden // 2)
    # The usual standard deviation of 0.02 is too small for a model of this width.
    initializer_range = hidden**-0.5
    text = {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": max(1, hidden // 64),
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": rope_theta},
        "bos_token_id": None,
        "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": True,
        "initializer_range": initializer_range,
    }
    vision = {
        "initializer_range": initializer_range / 2,
        "hidden_size": vision_hidden,
        "intermediate_size": 2 * vision_hidden,
        "num_heads": vision_hidden // 32,
        "out_hidden_size": hidden,
    }
    if family == "internvl":
        return _internvl_config(text, vision, tokenizer)
    media = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    if family == "qwen3_vl":
        # DeepStack twice, so that an exchange of its levels would be seen
        vision |= {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 8 * 8}
        rope = text["rope_parameters"] | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}
        text |= {"head_dim": 32, "rope_parameters": rope}
        return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **media)
    if family == "qwen3_5":
        return Qwen3_5Config(**_qwen3_5_parts(text, vision), tie_word_embeddings=True, **media)
    vision |= {"depth": 2, "fullatt_block_indexes": [1], "window_size": 112, "tokens_per_second": 2}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **media)


def _qwen3_5_parts(text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    """Of every four layers (or of all, if they are fewer) the last has full attention; two value heads to a key head."""
    layers, period = text["num_hidden_layers"], min(4, text["num_hidden_layers"])
    kinds = ["linear_attention", "full_attention"]
    rope = {"mrope_section": [6, 5, 5], "mrope_interleaved": True, "partial_rotary_factor": 1.0}
    text = text | {
        "head_dim": 32,
        "rope_parameters": text["rope_parameters"] | rope,
        "layer_types": [kinds[(i + 1) % period == 0] for i in range(layers)],
        "linear_num_key_heads": text["num_attention_heads"] // 2,
        "linear_num_value_heads": text["num_attention_heads"],
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
    }
    return {"text_config": text, "vision_config": vision | {"depth": 2, "num_position_embeddings": 8 * 8}}


def _internvl_config(
    text: dict[str, Any], vision: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> InternVLConfig:
    """InternVL 3.5: a Qwen3 behind the tower."""
    text = text | {"model_type": "qwen3", "head_dim": 32}
    rope = text["rope_parameters"]
    text["rope_parameters"] = {name: rope[name] for name in ("rope_type", "rope_theta")}  # no M-RoPE
    vision = {name: value for name, value in vision.items() if name not in ("num_heads", "out_hidden_size")}
    vision |= {"num_attention_heads": vision["hidden_size"] // 32, "num_hidden_layers": 2}
    vision |= {"image_size": [INTERNVL_TILE, INTERNVL_TILE], "patch_size": [14, 14]}
    return InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(FAMILIES["internvl"].image_token),
        image_seq_length=(INTERNVL_TILE // 28) ** 2,
        tie_word_embeddings=True,
    )


@torch.no_grad()
def let_states_last(model: PreTrainedModel) -> None:
    """Linear attention as if it had learned to remember: at random it forgets within a token or two, and its inputs vanish."""
    for name, parameter in model.named_parameters():
        if name.endswith(".A_log"):
            parameter.uniform_(0.05, 0.5).log_()
        elif ".conv1d." in name:
            parameter.normal_(std=0.5)


def build_tiny_vlm(
    out_dir: str | Path,
    corpus: Iterable[str],
    *,
    family: str = DEFAULT_FAMILY,
    hidden: int = 128,
    layers: int = 4,
    rope_theta: float = ROPE_THETA,
    seed: int = 0,
) -> Path:
    """Write a random tiny VLM (float32) with processor and tokenizer to `out_dir`, and return it.

    corpus: texts to train the tokenizer on. family: its `model_type`. hidden: a multiple of 64. rope_theta: base of the
    language model's rotary positions. seed: random seed for the weights.
    """
    if hidden % 64:
        raise ValueError(
            f"hidden must be a multiple of 64 (heads are 32 wide, two per key head), got {hidden}"
        )
    out_dir = Path(out_dir)
    tokenizer = build_tokenizer(corpus, family=family)
    config = tiny_config(tokenizer, family=family, hidden=hidden, layers=layers, rope_theta=rope_theta)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FAMILIES[family].model_class()._from_config(config, dtype=torch.float32)
        let_states_last(model)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    model.save_pretrained(out_dir)
    build_processor(tokenizer, family=family).save_pretrained(out_dir)
    return out_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--family", choices=FAMILIES, default=DEFAULT_FAMILY)
    parser.add_argument("--corpus", type=Path, help="text file to train the tokenizer on, one text per line")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rope-theta", type=float, default=ROPE_THETA, help="larger for long contexts")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus = (
        args.corpus.read_text(encoding="utf-8").removesuffix("\n").split("\n") if args.corpus else [__doc__]
    )
    sizes = {"hidden": args.hidden, "layers": args.layers, "rope_theta": args.rope_theta, "seed": args.seed}
    out = build_tiny_vlm(args.out, corpus, family=args.family, **sizes)
    print(f"tiny VLM written to {out}")


if __name__ == "__main__":
    main()
