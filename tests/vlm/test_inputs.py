"""Encoded inputs have the processor's ids and pixels and vLLM's positions, for any mix of media in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vlm.inputs import MEDIA_TOKENS, collate, encode, encode_row, expanded_length, extend, spread
from vlm.load import load_model, load_processor
from vlm.media import Video
from vlm.tiny import build_tiny_vlm

pytestmark = pytest.mark.every_family


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, family):
    corpus = ["what is this a red box 0 1 2 3"]
    return build_tiny_vlm(tmp_path_factory.mktemp("tiny"), corpus, family=family, layers=2)


@pytest.fixture(scope="session")
def processor(tiny):
    return load_processor(tiny)


def image(seed: int, width: int = 84, height: int = 56) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def video(seed: int, frames: int = 6, fps: float = 2.0) -> Video:
    return Video(np.random.default_rng(seed).integers(0, 255, (frames, 28, 56, 3), dtype=np.uint8), fps)


def user(*parts: str) -> list[dict]:
    content = [{"type": p} if p in ("image", "video") else {"type": "text", "text": p} for p in parts]
    return [{"role": "user", "content": content}]


CASES = {
    "text": (user("what is 1"), [], []),
    "plain string": ([{"role": "user", "content": "what is 2"}], [], []),
    "one image": (user("image", "what"), [image(0)], []),
    "two images, text between": (user("image", "and", "image"), [image(1), image(2, 28, 112)], []),
    "video": (user("video", "what"), [], [video(3)]),
    "video at an odd rate": (user("video", "when"), [], [video(6, frames=8, fps=1.3)]),
    "image and video": (user("image", "video", "what"), [image(4)], [video(5, fps=4.0)]),
}


@pytest.mark.parametrize("case", CASES)
def test_ids_and_pixels_equal_the_processors_own(processor, case):
    messages, images, videos = CASES[case]
    encoded = encode(processor, messages, images, videos)
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    metadata = [{k: v for k, v in v.metadata().items() if k != "do_sample_frames"} for v in videos]
    media = {"videos": [v.frames for v in videos], "video_metadata": metadata, "do_sample_frames": False}
    expected = processor(text=[text], images=images or None, return_tensors="pt", **(media if videos else {}))
    assert encoded.input_ids.tolist() == expected["input_ids"][0].tolist()
    for name in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
        value = getattr(encoded, name)
        assert (value is None) == (name not in expected)
        assert value is None or torch.equal(value, expected[name])


@pytest.mark.parametrize("case", CASES)
def test_the_length_is_known_without_pixels(processor, case):
    messages, images, videos = CASES[case]
    encoded = encode(processor, messages, images, videos)
    assert expanded_length(processor, encoded.engine_ids, images, videos) == len(encoded)


def test_values_of_placeholders_are_spread_over_all_that_they_become(processor):
    encoded = encode(processor, *CASES["image and video"])
    places = spread(processor, encoded, range(len(encoded.engine_ids)))
    family, ids = processor.family, torch.tensor(encoded.engine_ids)
    image, clip = (
        (ids == processor.tokenizer.convert_tokens_to_ids(token)).nonzero().item()
        for token in (family.image_token, family.video_token)
    )
    assert len(places) == len(encoded) and places == sorted(places)
    assert places.count(image) == 6
    # three times two visual tokens; in Qwen3-VL each time within two marks behind `<0.5 seconds>`
    assert (places.count(clip) == 6) == (family.name == "Qwen2.5-VL")
    rest = [place for place in places if place not in (image, clip)]
    assert len(rest) == len(set(rest)) == len(encoded.engine_ids) - 2


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5"], indirect=True, scope="session")
def test_positions_of_qwen3_are_transformers_own(tiny, processor):
    """Those of Qwen2.5-VL are not, on videos (tests/vlm/test_positions.py)."""
    model = load_model(tiny)
    for case in CASES.values():
        encoded = encode(processor, *case)
        kinds = sum(
            (encoded.input_ids == processor.tokenizer.convert_tokens_to_ids(token)).int() * kind
            for kind, token in ((1, processor.family.image_token), (2, processor.family.video_token))
        )
        grids = {"image_grid_thw": encoded.image_grid_thw, "video_grid_thw": encoded.video_grid_thw}
        expected, _ = model.model.get_rope_index(encoded.input_ids[None], kinds[None], **grids)
        assert torch.equal(encoded.position_ids, expected[:, 0])


def test_a_mixed_batch_gives_each_row_the_logits_it_has_alone(tiny, processor):
    model = load_model(tiny).eval()
    rows = [extend(encode(processor, *case), [20, 21, 22]) for case in CASES.values()]
    pad = processor.tokenizer.pad_token_id
    with torch.no_grad():
        together = model(**collate(rows, pad)).logits
        for i, row in enumerate(rows):
            alone = model(**collate([row], pad)).logits[0]
            torch.testing.assert_close(together[i, : len(row)], alone, atol=2e-5, rtol=1e-4)


def test_completions_continue_at_the_prompts_next_position(processor):
    prompt = encode(processor, *CASES["video"])
    longer = extend(prompt, [20, 21])
    assert longer.position_ids[:, -2:].tolist() == [[prompt.next_position, prompt.next_position + 1]] * 3
    assert longer.engine_ids[-2:] == (20, 21)


def test_encoding_keeps_one_placeholder_per_medium_for_the_engine(processor):
    encoded = encode(processor, *CASES["two images, text between"])
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert encoded.engine_ids.count(pad) == 2
    assert encoded.input_ids.tolist().count(pad) == 6 + 4


@pytest.mark.parametrize("token", MEDIA_TOKENS)
def test_text_that_names_a_media_token_is_refused(processor, token):
    with pytest.raises(ValueError, match="would be read as a medium"):
        encode(processor, user(f"look {token}"))


def test_a_missing_image_is_named_with_its_row(processor, tmp_path):
    row = {"id": "r7", "prompt": user("image", "what"), "images": [str(tmp_path / "gone.png")]}
    with pytest.raises(ValueError, match=r"row 'r7': image not found: .*gone\.png"):
        encode_row(processor, row)


def test_media_and_placeholders_must_match(processor):
    with pytest.raises(ValueError, match=r"2 image placeholder\(s\), the row has 1 image\(s\)"):
        encode(processor, user("image", "image"), [image(0)])
    with pytest.raises(ValueError, match=r"0 video placeholder\(s\), the row has 1 video\(s\)"):
        encode(processor, user("what"), [], [video(0)])
