"""Client, cache and rollout filters against a real vLLM server with a tiny model (random weights)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import media_fields, prompt_messages
from tests.data_recipes.endpoints import vllm_server
from vlm.tiny import build_tiny_vlm

pytestmark = pytest.mark.slow

CORPUS = ["How many red circles are there? Where is the blue square? 0 1 2 3 4 5 6 7 8 9"] * 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    with vllm_server(build_tiny_vlm(folder / "tiny", CORPUS, layers=2), folder / "log.txt") as running:
        yield running


@pytest.fixture
def image(tmp_path) -> str:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def clip(tmp_path) -> str:
    path = str(tmp_path / "clip.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def row(number: int, *, images=(), videos=(), **more):
    content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    content.append({"type": "text", "text": f"How many red circles are there? {number}"})
    return {
        "id": f"r{number}",
        "task": "digits",
        "prompt": [{"role": "user", "content": content}],
        "images": list(images),
        "videos": list(videos),
        "answer": {"value": number},
        "trace": None,
    } | more


def endpoint(server, **more) -> Endpoint:
    settings = {"temperature": 1.0, "max_tokens": 6, "seed": 3, "n_per_request": 4} | more
    return Endpoint(base_url=server.url, model=server.model, **settings)


REWARD = '''
def has_letter_e(completion, answer, **row):
    """What a random model does now and then."""
    return float("e" in completion)
'''


@pytest.fixture
def rewards(tmp_path) -> dict:
    path = tmp_path / "letters.py"
    path.write_text(REWARD)
    return {"grammar": "none", "tasks": {"digits": {"function": f"{path}:has_letter_e"}}}


def run(name: str, rows, folder: Path, **options):
    operation = OPERATIONS[name]
    context = Context(folder)
    return list(operation.apply(iter(rows), operation.options(**options), context)), context.counts


def test_text_images_and_videos_are_answered_and_paid_once(server, image, clip, tmp_path):
    frames, whole = endpoint(server), endpoint(server, videos="video")
    asked = [
        (frames, row(0)),
        (frames, row(1, images=[image])),
        (frames, row(2, images=[image, image])),
        (frames, row(3, videos=[clip])),
        (whole, row(4, videos=[clip])),
    ]

    async def all_of_them(counts: Counter[str]):
        clients = {id(e): Client(e, tmp_path / "cache", counts) for e in (frames, whole)}
        replies = [
            await clients[id(e)].ask(prompt_messages(r, e), range(4), media_fields(r, e)) for e, r in asked
        ]
        for client in clients.values():
            await client.close()
        return replies

    before = server.requests()
    counts: Counter[str] = Counter()
    replies = asyncio.run(all_of_them(counts))
    assert [reply.problem for some in replies for reply in some] == [None] * 20
    assert all(isinstance(reply.text, str) for some in replies for reply in some)
    assert any(len({reply.text for reply in some}) > 1 for some in replies)
    assert counts["teacher/requests"] == 5 and counts["teacher/tokens_completion"] > 20
    asked_for = server.requests()
    assert asked_for > before
    again: Counter[str] = Counter()
    assert asyncio.run(all_of_them(again)) == replies
    assert server.requests() == asked_for
    assert again["teacher/cached"] == 20 and again["teacher/requests"] == 0


def test_the_server_sees_the_prompt_that_the_trainer_sees(server, image, clip, tmp_path):
    from vlm.inputs import encode
    from vlm.load import load_processor
    from vlm.media import load_media

    processor = load_processor(server.folder)
    whole = endpoint(server, videos="video", n_per_request=1)
    rows = [row(0), row(1, images=[image]), row(2, images=[image, image]), row(3, videos=[clip])]

    async def tokens(r) -> int:
        counts: Counter[str] = Counter()
        client = Client(whole, tmp_path / "cache", counts)
        await client.ask(prompt_messages(r, whole), fields=media_fields(r, whole))
        await client.close()
        return int(counts["teacher/tokens_prompt"])

    for r in rows:
        assert asyncio.run(tokens(r)) == len(encode(processor, r["prompt"], *load_media(r)))


def test_a_prompt_that_is_too_long_is_turned_down(server, tmp_path):
    async def ask():
        client = Client(endpoint(server, max_failures=0), tmp_path, Counter())
        replies = await client.ask([{"role": "user", "content": "How many?"}])
        replies += await client.ask([{"role": "user", "content": "red circles " * 5000}])
        await client.close()
        return replies

    fine, long = asyncio.run(ask())
    assert fine.problem is None
    assert long.text is None and long.problem.startswith("turned down: status 400")


def test_pass_rate_measures_the_model_with_the_rewards_of_the_run(server, image, rewards, tmp_path):
    rows = [row(i, images=[image]) for i in range(6)] + [row(9, task="chat")]
    options = {"model": endpoint(server), "rewards": rewards, "n": 8, "tasks": ["digits"]}
    out, counts = run("pass_rate", rows, tmp_path / "work", **options)
    assert len(out) == 7 and out[6] == rows[6]
    for before, after in zip(rows[:6], out[:6], strict=True):
        kept = after.row if isinstance(after, Removed) else after
        assert kept["id"] == before["id"]
        assert kept["pass_rate"] == kept["mean_reward"]
        assert (kept["pass_rate"] * 8).is_integer()
        assert isinstance(after, Removed) == (not 0 < kept["pass_rate"] <= 0.9)
    assert sum(counts[f"pass_rate/{i / 10:.1f}"] for i in range(11)) == 6
    assert counts["rollouts"] == 48 and counts["model/requests"] == 12
    asked_for = server.requests()
    again, counted = run("pass_rate", rows, tmp_path / "work", **options)
    assert again == out and server.requests() == asked_for
    assert counted["model/cached"] == 48 and counted["model/requests"] == 0


def test_rows_solved_without_the_image_leave(server, image, rewards, tmp_path):
    rows = [row(i, images=[image]) for i in range(3)] + [row(3)]
    options = {"model": endpoint(server), "rewards": rewards, "n": 4}
    out, _ = run("needs_image", rows, tmp_path, threshold=1e-9, **options)
    rates = [(r.row if isinstance(r, Removed) else r).get("blind_rate") for r in out]
    assert rates[3] is None and out[3] == rows[3]  # has no image to do without
    assert [isinstance(r, Removed) for r in out[:3]] == [rate > 0 for rate in rates[:3]]
    prompt, _ = run("needs_image", rows[:1], tmp_path, threshold=1.0, **options)
    assert rates[0] == (prompt[0].row if isinstance(prompt[0], Removed) else prompt[0])["blind_rate"]
