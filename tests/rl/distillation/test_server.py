"""A teacher behind a real vLLM server says of text, images and turns what a plain forward of its weights says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from PIL import Image

from rl.distillation.config import ServerTeacherConfig
from rl.distillation.server import PROBE, ServerTeacher, TeacherError
from tests.data_recipes.endpoints import vllm_server
from tests.groups import group_of
from tests.rl.distillation.plain import plain_logprobs
from tests.rl.update.test_update_exactness import episode


@pytest.mark.slow
def test_a_server_and_a_plain_forward_agree(lab, teacher_folder, tmp_path):
    noise = Image.effect_noise((84, 56), 100).convert("RGB")
    text, image = lab.prompt("What is one and one?"), lab.prompt("Look closer.", [noise])
    groups = [
        lab.group(text, [7, 1, 12]),
        lab.group(image, [5, 3]),
        group_of([episode(lab, image, turns, seed) for seed, turns in enumerate((1, 3))], [1.0, 0.0]),
    ]
    teacher = lab.processor.family.model_class().from_pretrained(teacher_folder, dtype=torch.float32)
    with vllm_server(teacher_folder, tmp_path / "log", "--enable-scale-out") as server:
        config = ServerTeacherConfig(url=server.url.removesuffix("/v1"), model=server.model)
        found = ServerTeacher(config, [{"videos": []}], lab.processor, longest=1024)
        try:
            answers = found.logprobs(groups)
            for group, values in zip(groups, answers, strict=True):
                for rollout, value in zip(group.rollouts, values, strict=True):
                    torch.testing.assert_close(value, plain_logprobs(teacher, rollout), rtol=0, atol=1e-4)
        finally:
            found.close()
        # the policy's images at half their size: other tokens than the server's
        small = lab.group(lab.prompt("Look closer.", [noise]), [4])
        smaller = lab.rollout(lab.prompt("Look closer.", [noise.resize((28, 28))]), 4, 0)
        object.__setattr__(smaller.prompt, "images", small.rollouts[0].prompt.images)
        found = ServerTeacher(config, [], lab.processor, longest=1024)
        with pytest.raises(TeacherError, match=r"row 'row' has \d+ tokens for the policy and \d+ tokens for"):
            found.logprobs([group_of([smaller], [1.0])])
        found.close()
        with pytest.raises(TeacherError, match="its context is 2048 tokens, expected more than"):
            ServerTeacher(config, [], lab.processor, longest=2048)


@contextmanager
def answering(answer):
    """An HTTP server that is none of vLLM's: answer(path, body) -> (status, JSON)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, reply = answer(self.path, body)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(lab, url, **options):
    teacher = ServerTeacher(
        ServerTeacherConfig(url=url, model="m", **options), [], lab.processor, longest=1024
    )
    try:
        return teacher.logprobs([lab.group(lab.prompt("What?"), [3])])
    finally:
        teacher.close()


def test_servers_that_cannot_judge_the_policy_are_refused(lab, monkeypatch):
    ids = lab.processor.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    config, rows = (
        ServerTeacherConfig(url="http://127.0.0.1:1", model="m"),
        [{"id": "clip", "videos": ["a.mp4"]}],
    )
    with pytest.raises(ValueError, match="row 'clip': .* this row has a video"):
        ServerTeacher(config, rows, lab.processor, longest=8)
    with pytest.raises(TeacherError, match=r"teacher m at http://127.0.0.1:1: no answer for 0 s"):
        ask(lab, "http://127.0.0.1:1", retry_for_s=0)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(TeacherError, match="the environment variable NO_SUCH_KEY is not set"):
        ask(lab, "http://127.0.0.1:1", api_key_env="NO_SUCH_KEY")
    with (
        answering(lambda path, body: (200, {"tokens": ids[:-1], "max_model_len": 4096})) as url,
        pytest.raises(TeacherError, match="expected the policy's tokenizer"),
    ):
        ask(lab, url)
    with (
        answering(lambda path, body: (404, {"detail": "Not Found"})) as url,
        pytest.raises(TeacherError, match="404 from /tokenize"),
    ):
        ask(lab, url)


FORMS = {
    "missing": lambda sent: None,
    "empty": lambda sent: [],
    "a text": lambda sent: "-1.0",
    "nulls": lambda sent: [None] * len(sent),
    "of other tokens": lambda sent: [{"-1": {"logprob": -1.0}}] * len(sent),
    "no numbers": lambda sent: [{str(i): {"logprob": None}} for i in sent],
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_in_another_form_is_an_error_and_no_log_prob(lab, form):
    ids = lab.processor.tokenizer(PROBE, add_special_tokens=False)["input_ids"]

    def answer(path, body):
        if path == "/tokenize":
            return 200, {"tokens": ids, "max_model_len": 4096}
        sent = body["token_ids"]
        return 200, {"prompt_token_ids": sent, "prompt_logprobs": FORMS[form](sent)}

    with answering(answer) as url, pytest.raises(TeacherError, match="row 'row': expected prompt_logprobs"):
        ask(lab, url)


def test_a_busy_server_is_asked_again(lab):
    ids = lab.processor.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    calls = []

    def answer(path, body):
        calls.append(path)
        if len(calls) in (1, 3):
            return 503, {}
        if path == "/tokenize":
            return 200, {"tokens": ids, "max_model_len": 4096}
        sent = body["token_ids"]
        assert body["model"] == "m" and body["sampling_params"]["prompt_logprobs"] == 0
        values = [None, *({str(i): {"logprob": -0.5, "rank": 1}} for i in sent[1:])]
        return 200, {"prompt_token_ids": sent, "prompt_logprobs": values}

    with answering(answer) as url:
        ((values,),) = ask(lab, url)
    assert values.tolist() == [-0.5] * 3 and len(calls) == 4
