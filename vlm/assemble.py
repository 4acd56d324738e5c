"""Join a Qwen2.5 ViT, a new MLP projector and a language model into one vision-language checkpoint.

    python -m vlm.assemble --vision Qwen/Qwen2.5-VL-7B-Instruct --language XiaomiMiMo/MiMo-7B-Base --output models/new

The result is a `Qwen2_5_VLForConditionalGeneration` folder (weights, config, processor, tokenizer, chat template) that
transformers and vLLM load. What is kept exactly: the ViT's features before the projector, and the language model's
logits on text. The projector is freshly initialised (train it first: preset `projector`): RMSNorm on each patch, 2x2
patches concatenated, Linear, GELU, Linear to the language model's width.

Weights go from the source files to the new ones tensor by tensor (peak memory is that of the largest single tensor,
whatever the models' sizes), and everything that can fail is checked from configs and headers before the first is read.
The output appears under its name only when it is complete.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vlm.assemble_config import build_config, read_language_config, read_vision_config
from vlm.checkpoint import CheckpointError, read_config, resolve_checkpoint, weight_files
from vlm.parts import PARTS, Part, part_of
from vlm.safetensors_stream import DTYPES, PlannedTensor, describe, read_tensor, write_sharded
from vlm.vocabulary import Vocabulary, extend_rows, extend_vocabulary

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLConfig

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_QKV_BIAS = re.compile(r"\.self_attn\.[qkv]_proj\.bias$")
_MTP = re.compile(r"\.mtp_layers\.")  # MiMo's multi-token prediction layers: not part of the policy
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$")  # old checkpoints store what the config determines


@dataclass(frozen=True)
class Assembled:
    """What was written."""

    path: Path
    files: tuple[str, ...]  # weight files, in order
    parameters: dict[Part, int]  # scalars of each part
    vocabulary: int  # rows of the embedding
    added_tokens: tuple[str, ...]  # tokens the language model lacked
    zero_biases: int  # q/k/v biases the language model lacked, written as zeros
    dropped: dict[str, int]  # tensors of the sources that were left out on purpose, by reason

    def summary(self) -> str:
        """A few lines for people."""
        parts = ", ".join(f"{part} {self.parameters[part]:,}" for part in PARTS)
        lines = [
            f"Assembled {self.path}: {sum(self.parameters.values()):,} parameters ({parts}) in {len(self.files)} file(s)",
            f"  vocabulary: {self.vocabulary:,} rows, new tokens: {' '.join(self.added_tokens) or 'none'}",
        ]
        if self.zero_biases:
            lines.append(
                f"  q/k/v biases that the language model does not have, written as zeros: {self.zero_biases}"
            )
        lines += [f"  left out, {reason}: {count} tensors" for reason, count in self.dropped.items() if count]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Source:
    """The tensors of one checkpoint under the names of the result."""

    folder: Path
    tensors: dict[str, tuple[Path, str]]  # name in the result -> (file, name in the file)


def assemble(
    vision: str | Path,
    language: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    dtype: str | None = None,
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
    need_vllm: bool = True,
    quiet: bool = False,
) -> Assembled:
    """Write the assembled checkpoint to the folder `output`.

    Args:
        vision: Qwen2.5-VL checkpoint whose ViT is taken (without its projector), and its image and video processors.
        language: causal language model, Qwen2 family (Qwen2.5, MiMo) or Llama family without biases.
        seed: of the projector's weights and of new vocabulary rows.
        dtype: `float32`, `bfloat16` or `float16`: cast every weight; None keeps each tensor as it is stored (the
            projector takes the language model's type).
        max_shard_bytes: size at which a new weight file begins.
        overwrite: replace a non-empty `output`; it stays untouched until the new one is complete.
        need_vllm: False accepts language models whose position encoding transformers can compute and vLLM cannot.

    Raises:
        CheckpointError: a source is missing, incomplete, or of a family or shape that does not fit; says which.
        FileExistsError: `output` has content and `overwrite` is False.
    """
    target = Path(output)
    vision_folder, language_folder = resolve_checkpoint(vision), resolve_checkpoint(language)
    _check_output(target, (vision_folder, language_folder), overwrite)
    vision_config = read_vision_config(vision_folder, read_config(vision_folder))
    raw_language = read_config(language_folder)
    language_config = read_language_config(language_folder, raw_language, need_vllm=need_vllm)
    vision_source, language_source, dropped = _sources(
        vision_folder, language_folder, raw_language, language_config
    )
    vocabulary = extend_vocabulary(language_folder, language_config)
    config = build_config(language_config, vision_config, vocabulary)

    stored = _stored_dtype(language_source)
    config.dtype = config.text_config.dtype = config.vision_config.dtype = _dtype(dtype) or stored
    plan = _plan(
        config, vision_source, language_source, raw_language["model_type"], vocabulary, seed, _dtype(dtype)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(t.nbytes for t in plan), shutil.disk_usage(target.parent).free
    if needed > free:
        raise CheckpointError(f"{target}: the weights need {needed:,} bytes, the disk has {free:,} left")

    # Beside the output, so that the final rename stays on one file system and is atomic.
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        with _progress(needed, quiet) as bar:
            files = write_sharded(partial_folder, plan, max_shard_bytes, bar.update)
        _write_configs(partial_folder, config, vocabulary, vision_folder, language_folder, language_config)
        partial_folder.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(partial_folder, target)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)

    parameters = dict.fromkeys(PARTS, 0)
    for tensor in plan:
        parameters[_part(tensor.name)] += torch.Size(tensor.shape).numel()
    result = Assembled(
        path=target,
        files=tuple(file.name for file in files),
        parameters=parameters,
        vocabulary=vocabulary.size,
        added_tokens=vocabulary.added,
        zero_biases=sum(_is_missing_bias(t.name, language_source) for t in plan),
        dropped=dropped,
    )
    if not quiet:
        print(result.summary(), flush=True)
    return result


def _check_output(target: Path, sources: Sequence[Path], overwrite: bool) -> None:
    for source in sources:
        if target.resolve() == source.resolve() or target.resolve() in source.resolve().parents:
            raise CheckpointError(f"{target}: the output would replace its own source {source}")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target}: the output exists and is not a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise FileExistsError(f"{target}: the output folder is not empty (--overwrite replaces it)")


def _sources(
    vision: Path, language: Path, raw: dict[str, Any], config: Any
) -> tuple[_Source, _Source, dict[str, int]]:
    """Tensors of both checkpoints that are taken, and counts of those left out on purpose."""
    dropped = {"the vision checkpoint's own projector": 0, "multi-token prediction": 0, "tied LM head": 0}
    visual: dict[str, tuple[Path, str]] = {}
    for name, file in weight_files(vision).items():
        short = name.removeprefix("model.")  # transformers 5 in memory: model.visual.*; on disk: visual.*
        if short.startswith("visual.merger."):
            dropped["the vision checkpoint's own projector"] += 1
        elif short.startswith("visual."):
            visual[short] = (file, name)
    text: dict[str, tuple[Path, str]] = {}
    for name, file in weight_files(language).items():
        if raw["model_type"] == "mimo" and _MTP.search(name):
            dropped["multi-token prediction"] += 1
        elif not _DERIVED.search(name):
            text[name] = (file, name)
    if config.tie_word_embeddings and _HEAD in text:
        head, embedding = (read_tensor(*text[name]) for name in (_HEAD, _EMBEDDING))
        if not torch.equal(head, embedding):
            raise CheckpointError(
                f"{language}: tie_word_embeddings is true, but {_HEAD} differs from {_EMBEDDING}; set it to false to"
                " keep both"
            )
        del text[_HEAD]
        dropped["tied LM head"] += 1
    return _Source(vision, visual), _Source(language, text), dropped


def _plan(
    config: Qwen2_5_VLConfig,
    vision: _Source,
    language: _Source,
    family: str,
    vocabulary: Vocabulary,
    seed: int,
    dtype: torch.dtype | None,
) -> list[PlannedTensor]:
    """Every tensor of the result with where it comes from; all names, shapes and types are checked here."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.device("meta"):
        skeleton = Qwen2_5_VLForConditionalGeneration(config)
    expected = {_disk_name(name): tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop(_HEAD, None)
    for source, kind in ((vision, "vision"), (language, "language")):
        unexpected = sorted(source.tensors.keys() - expected.keys())
        if unexpected:
            raise CheckpointError(
                f"{source.folder}: {len(unexpected)} tensors of the {kind} model have no place in Qwen2.5-VL:"
                f" {_some(unexpected)}"
            )
    biasless = family == "llama" and not any(_QKV_BIAS.search(name) for name in language.tensors)
    made_here = {
        name
        for name in expected
        if name.startswith("visual.merger.") or (biasless and _QKV_BIAS.search(name))
    }
    for source, kind in ((vision, "vision"), (language, "language")):
        missing = sorted(
            name
            for name in expected.keys() - made_here - source.tensors.keys()
            if name.startswith("visual.") == (kind == "vision")
        )
        if missing:
            raise CheckpointError(
                f"{source.folder}: {len(missing)} weights of the {kind} model are missing: {_some(missing)}"
            )

    plan = []
    for name, shape in expected.items():
        if name in made_here:
            made = dtype or config.dtype
            read = partial(_initial, name, shape, made, config.vision_config.initializer_range, seed)
            plan.append(PlannedTensor(name, shape, made, read))
            continue
        source = vision if name.startswith("visual.") else language
        file, stored_name = source.tensors[name]
        stored_shape, code = describe(file, stored_name)
        if code not in DTYPES:
            raise CheckpointError(
                f"{file}: {stored_name}: expected weights of type {', '.join(DTYPES)}, got {code}"
            )
        grows = name in (_EMBEDDING, _HEAD)
        fits = (
            stored_shape[1:] == shape[1:] and stored_shape[0] <= shape[0] if grows else stored_shape == shape
        )
        if not fits or (grows and stored_shape[0] != _rows(language)):
            wanted = (_rows(language), *shape[1:]) if grows else shape
            raise CheckpointError(f"{file}: {stored_name}: expected shape {wanted}, got {stored_shape}")
        final = dtype or DTYPES[code]
        size = vocabulary.size if grows and stored_shape[0] < vocabulary.size else None
        plan.append(
            PlannedTensor(name, shape, final, partial(_copy, file, stored_name, final, size, name, seed))
        )
    return plan


def _rows(language: _Source) -> int:
    """Rows of the source's embedding, which its LM head must match."""
    return describe(*language.tensors[_EMBEDDING])[0][0]


def _copy(
    file: Path, stored: str, dtype: torch.dtype, rows: int | None, name: str, seed: int
) -> torch.Tensor:
    tensor = read_tensor(file, stored).to(dtype)
    return tensor if rows is None else extend_rows(tensor, rows, name=name, seed=seed)


def _initial(name: str, shape: tuple[int, ...], dtype: torch.dtype, std: float, seed: int) -> torch.Tensor:
    """Projector weights as transformers initialises the class (norm 1, biases 0, matrices N(0, std²)); q/k/v biases 0.

    Each tensor has its own random stream, of `seed` and its name, so that no value depends on the order of writing.
    """
    if name.endswith(".bias"):
        return torch.zeros(shape, dtype=dtype)
    if name.endswith(".ln_q.weight"):
        return torch.ones(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    return (torch.randn(shape, generator=generator) * std).to(dtype)


def _write_configs(
    folder: Path,
    config: Qwen2_5_VLConfig,
    vocabulary: Vocabulary,
    vision: Path,
    language: Path,
    language_config: Any,
) -> None:
    from transformers import GenerationConfig, Qwen2_5_VLProcessor

    config.save_pretrained(folder)
    image_processor, video_processor = _media_processors(vision, config.vision_config)
    processor = Qwen2_5_VLProcessor(
        image_processor=image_processor,
        tokenizer=vocabulary.tokenizer,
        video_processor=video_processor,
        chat_template=vocabulary.chat_template,
    )
    processor.save_pretrained(folder)
    ends = [vocabulary.id("<|im_end|>")]
    own = language_config.eos_token_id
    if (language / "generation_config.json").is_file():
        own = GenerationConfig.from_pretrained(language).eos_token_id or own
    ends += [end for end in ([own] if isinstance(own, int) else own or []) if end not in ends]
    GenerationConfig(
        bos_token_id=language_config.bos_token_id,
        eos_token_id=ends,
        pad_token_id=vocabulary.tokenizer.pad_token_id,
    ).save_pretrained(folder)


def _media_processors(vision: Path, config: Any) -> tuple[Any, Any]:
    """Image and video processors of the vision checkpoint, or new ones of its patch sizes where it has none."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    sizes = {
        "patch_size": config.patch_size,
        "temporal_patch_size": config.temporal_patch_size,
        "merge_size": config.spatial_merge_size,
    }
    made = []
    for cls in (Qwen2VLImageProcessor, Qwen2VLVideoProcessor):
        try:
            processor = cls.from_pretrained(vision)
        except OSError:  # the vision checkpoint came without a processor
            processor = cls(**sizes)
        for field, expected in sizes.items():
            if getattr(processor, field) != expected:
                raise CheckpointError(
                    f"{vision}: its {cls.__name__} has {field} {getattr(processor, field)}, its ViT {expected}"
                )
        made.append(processor)
    return made[0], made[1]


def _move_into_place(partial_folder: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        partial_folder.rename(target)  # also replaces an empty folder
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent))
    target.rename(old)
    partial_folder.rename(target)
    shutil.rmtree(old)


def _disk_name(name: str) -> str:
    """Name on disk, as transformers writes and Qwen publishes it, of a parameter of the class."""
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.", 1)


def _part(disk_name: str) -> Part:
    is_text = disk_name.startswith("model.")
    return part_of("language_model." + disk_name if is_text else disk_name)


def _is_missing_bias(name: str, language: _Source) -> bool:
    return bool(_QKV_BIAS.search(name)) and name not in language.tensors


def _stored_dtype(language: _Source) -> torch.dtype:
    """Type of the language model's embedding, which the result's config names and the projector takes."""
    if _EMBEDDING not in language.tensors:
        raise CheckpointError(
            f"{language.folder}: {_EMBEDDING} is missing; found {len(language.tensors)} tensors, for example"
            f" {_some(sorted(language.tensors))}"
        )
    code = describe(*language.tensors[_EMBEDDING])[1]
    if code not in DTYPES:
        raise CheckpointError(f"{language.folder}: expected weights of type {', '.join(DTYPES)}, got {code}")
    return DTYPES[code]


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if name not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype: expected float32, bfloat16 or float16, got {name!r}")
    return getattr(torch, name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _progress(total: int, quiet: bool):
    from tqdm import tqdm

    return tqdm(total=total, unit="B", unit_scale=True, desc="writing weights", disable=quiet or None)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]?)B?", text.strip(), re.IGNORECASE)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 5GB or 500MB, got {text!r}")
    return int(match[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}[match[2].upper()]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; exits with status 2 and one line on an error."""
    parser = argparse.ArgumentParser(prog="python -m vlm.assemble", description=__doc__.splitlines()[0])
    parser.add_argument("--vision", required=True, help="Qwen2.5-VL checkpoint whose ViT is taken")
    parser.add_argument("--language", required=True, help="Qwen2, MiMo or Llama checkpoint")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the projector and new vocabulary rows (default 0)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="cast weights (default: as stored)"
    )
    parser.add_argument(
        "--max-shard-size", type=_bytes, default="5GB", help="size of a weight file (default 5GB)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a non-empty output folder")
    parser.add_argument(
        "--without-vllm",
        action="store_true",
        help="accept position encodings that only transformers computes",
    )
    args = parser.parse_args(argv)
    try:
        assemble(
            args.vision,
            args.language,
            args.output,
            seed=args.seed,
            dtype=args.dtype,
            max_shard_bytes=args.max_shard_size,
            overwrite=args.overwrite,
            need_vllm=not args.without_vllm,
        )
    except (CheckpointError, FileExistsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
