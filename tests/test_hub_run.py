"""A whole run from the Hub and back: model and rows by their ids, and the result uploaded as it is (tests/hub_stand_in.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.hub_stand_in import hub_stand_in
from tests.rl.small_run import small_config, write_small_world

REPOSITORY = Path(__file__).parents[1]
UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi(token="hf_x")
api.create_repo("me/trained")
api.upload_folder(repo_id="me/trained", folder_path=sys.argv[1])
"""


def test_the_plan_says_what_a_run_will_download_and_downloads_nothing(tmp_path):
    with hub_stand_in() as hub:
        hub.add("model", "me/tiny", {"config.json": b"{}", "model.safetensors": b"0" * 5000})
        config = [
            "--config",
            "launch/configs/grpo_qwen2_5_vl_7b.yaml",
            "model.path=me/tiny",
            "prompts.rows=me/none",
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "launch.plan", "grpo", *config],
            env=hub.environment(tmp_path),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert "me/tiny from the Hub, 5,002 bytes, when the run starts" in ran.stdout
        assert "rows: me/none: no such path here, and no data set of that name" in ran.stdout
        assert not [request for request in hub.requests if "/resolve/" in request]


VLLM = """
import sys
from core.torch_companions import adapt_torch_companions
adapt_torch_companions()
from vllm import LLM, SamplingParams
engine = LLM(sys.argv[1], enforce_eager=True, skip_mm_profiling=True)  # only to start faster
answer, = engine.chat([{"role": "user", "content": "what is 1"}], SamplingParams(max_tokens=4, ignore_eos=True))
print("TOKENS", len(answer.outputs[0].token_ids))
"""


@pytest.mark.slow
def test_grpo_from_the_hub_gives_a_folder_to_share(tmp_path):
    world = write_small_world(tmp_path / "world", rows=4)
    (world / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    rows = (world / "rows.jsonl").read_text().splitlines()
    files = {"train.jsonl": "\n".join(rows[:3]).encode(), "test.jsonl": rows[3].encode()}
    files |= {image.name: image.read_bytes() for image in world.glob("*.png")}
    final = tmp_path / "out" / "final"
    with hub_stand_in() as hub:
        commit = hub.add("model", "me/tiny", world / "model")
        hub.add("dataset", "me/rows", files)
        config = small_config(world, tmp_path / "out", steps=1).model_dump(mode="json")
        config["model"]["path"], config["prompts"]["rows"] = "me/tiny@main", "me/rows"
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        env = hub.environment(tmp_path / "hf", OMP_NUM_THREADS="1")
        grpo = [sys.executable, "grpo.py", "--config", str(tmp_path / "run.yaml")]
        ran = subprocess.run(grpo, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        upload = [sys.executable, "-c", UPLOAD, str(final)]
        env |= {"HF_HUB_DISABLE_XET": "1"}  # the stand-in speaks the older protocol of large files
        subprocess.run(upload, env=env, check=True, capture_output=True)
        repository = hub.repositories["model", "me/trained"]
        uploaded = repository.commits[repository.refs["main"]]

    card = ModelCard.load(final / "README.md")
    assert (card.data.base_model, card.data.license, card.data.datasets) == (
        "me/tiny",
        "apache-2.0",
        ["me/rows"],
    )
    assert f"commit `{commit}`" in card.text and "`me/rows` (prompts.rows): 3 rows" in card.text
    assert "| digits | share_of_digits (1) |" in card.text and "`reward/mean`" in card.text
    assert uploaded == {path.name: path.read_bytes() for path in final.iterdir()}
    expected = {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "chat_template.jinja",
    }
    assert expected < set(uploaded) and "tokenizer.json" in uploaded
    assert json.loads(uploaded["generation_config.json"])["eos_token_id"] is not None
    loads_without_options(final)
    vllm_answers_without_options(final)


def loads_without_options(folder: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(
        [{"role": "user", "content": "what is 1"}], add_generation_prompt=True
    )
    inputs = processor(text=[text], return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]


def vllm_answers_without_options(folder: Path) -> None:
    settings = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    env = os.environ | settings | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", VLLM, str(folder)]
    ran = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "TOKENS 4" in ran.stdout, ran.stdout + ran.stderr
