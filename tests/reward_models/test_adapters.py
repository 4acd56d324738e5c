"""Reward models of other kinds, through adapters; the real checkpoints are too large for a test."""

from __future__ import annotations

import torch
from PIL import Image
from safetensors.torch import save_file

from core.rows import read_rows
from reward_models.adapters import internlm_xcomposer
from reward_models.reward import RewardModel
from vlm.load import load_model, load_processor


def test_a_value_head_beside_a_vision_language_model_is_read_at_the_last_token(tiny, pairs_file, tmp_path):
    """In the layout of Skywork-VL-Reward: weights of the VLM, TRL's value head in a file of its own."""
    folder = tmp_path / "skywork"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).symlink_to(file)
    weight, bias = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    save_file(
        {"v_head.summary.weight": weight, "v_head.summary.bias": bias}, folder / "value_head.safetensors"
    )
    function = RewardModel(str(folder), adapter="skywork_vl")
    row = next(row for row in read_rows(pairs_file) if row["images"])
    (result, empty) = function(["a red tile", " "], [row["prompt"]] * 2, [row["images"]] * 2)
    assert empty == {"reward": 0.0, "reason": "empty"}

    processor, model = load_processor(tiny), load_model(tiny).eval()
    turns = [*row["prompt"], {"role": "assistant", "content": "a red tile"}]
    text = processor.apply_chat_template(turns, tokenize=False)
    inputs = processor(text=[text], images=[Image.open(row["images"][0])], return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
    expected = weight[0] @ hidden + bias[0]
    torch.testing.assert_close(torch.tensor(result["score"]), expected, atol=1e-4, rtol=1e-4)


def test_xcomposer_is_asked_in_its_own_way(monkeypatch, tmp_path):
    """A stand-in for the model, whose code comes with its checkpoint: what it is given."""
    import transformers

    asked = []

    class StandIn:
        def to(self, device):
            return self

        def eval(self):
            return self

        def get_score(self, chat, images, hd_num):
            asked.append((chat, [Image.open(path).size for path in images], hd_num))
            return torch.tensor(1.5)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *a, **k: StandIn())
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *a, **k: None)
    score = internlm_xcomposer(str(tmp_path), device="cpu", dtype="float32")
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    assert score(prompt, [Image.new("RGB", (30, 20))], "Red.") == 1.5
    chat = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Red."}]
    assert asked == [(chat, [(30, 20)], 9)]
