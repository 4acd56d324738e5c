"""A dialogue is trained on token by token as a policy would have sampled it: its turns are targets, observations are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from core.rows import check_row
from data_recipes.readers import FORMATS
from environments.build import build_environment
from environments.config import EnvironmentConfig
from environments.dialogue import as_message, images_of
from sft.data import END_ID, IGNORE, encode_example
from sft.packing import micro_batches
from vlm.inputs import encode_ids, prompt_ids, reply_ids
from vlm.load import load_processor
from vlm.media import load_media

WORLD = {"rows": 3, "width": 600, "height": 600, "max_pixels": 50176, "signs": 12, "image_format": "png"}


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(tiny, min_pixels=28 * 28, max_pixels=50176)


@pytest.fixture(scope="module", params=[1, 2])
def row(request, tmp_path_factory):
    world, folder = FORMATS["synthetic_search"], tmp_path_factory.mktemp("world")
    options = world.options(**WORLD, zooms=request.param)
    record = next(iter(world.read(folder, options)))
    (made,) = world.convert(record, options)
    return check_row(made, folder)


def test_the_sequence_is_that_of_an_episode_with_the_same_turns(processor, row):
    """Prompt, turn, observation … are tokenised apart and joined; nothing is tokenised across their borders."""
    tokenizer = processor.tokenizer
    ids = prompt_ids(processor, row["prompt"])
    sampled = [False] * len(ids)
    for turn in row["trace"]:
        if turn["role"] == "assistant":
            own = tokenizer(turn["content"], add_special_tokens=False)["input_ids"]
            ids, sampled = [*ids, *own], sampled + [True] * len(own)
        else:
            between = reply_ids(
                processor, turn
            )  # from the end of the turn before to the beginning of the next
            ids, sampled = [*ids, *between], sampled + [True] + [False] * (len(between) - 1)
    ids, sampled = [*ids, tokenizer.eos_token_id], [*sampled, True]
    images, videos = load_media(row)
    whole = encode_ids(processor, ids, images, videos)
    example = encode_example(processor, row)
    assert example.sequence.engine_ids == tuple(ids)
    assert torch.equal(example.sequence.input_ids, whole.input_ids)
    assert torch.equal(example.sequence.position_ids, whole.position_ids)
    assert torch.equal(example.sequence.pixel_values, whole.pixel_values)
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    trained = iter(sampled)
    expanded, counts = [], iter((whole.image_grid_thw.prod(-1) // 4).tolist())
    for token in ids:
        expanded += [next(trained)] * (next(counts) if token == image else 1)
    assert example.labels.ne(IGNORE).tolist() == expanded
    assert torch.equal(example.labels[example.labels != IGNORE], whole.input_ids[torch.tensor(expanded)])


def test_what_is_trained_on_reads_as_the_assistants_turns_and_ends_each(processor, row):
    example = encode_example(processor, row)
    end = processor.tokenizer.eos_token
    turns = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
    assert processor.tokenizer.decode(example.labels[example.labels != IGNORE]) == "".join(
        f"{t}{end}" for t in turns
    )
    assert int((example.stage_ids == END_ID).sum()) == len(turns)
    masked = processor.tokenizer.decode(example.sequence.input_ids[example.labels == IGNORE])
    assert (
        "gave this region (Observation 1)" in masked
        and "<grounding>{" not in masked.partition("Observation 1")[2]
    )
    batch = micro_batches([example], 100_000)[0]
    assert torch.equal(batch.packed.targets, example.labels[example.labels != IGNORE])


def test_observations_are_those_that_the_environment_of_a_rollout_gives(processor, row):
    environment = build_environment(EnvironmentConfig(tools=["zoom"], describe_tools=False), processor)
    state = environment.reset(row | {"images": row["images"][:1]})
    crops = iter(row["images"][1:])
    for turn, shown in zip(row["trace"][:-1:2], row["trace"][1::2], strict=True):
        observation = environment.respond(state, turn["content"])
        assert as_message(observation.content) == shown
        (image,) = images_of(observation.content)
        assert np.array_equal(image, Image.open(next(crops)))
    environment.close()
