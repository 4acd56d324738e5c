"""Endpoints for tests: a real vLLM server with a tiny model, and a scripted teacher on a real socket.

The scripted teacher is a mock, because a model that writes good traces is too large for a test. It speaks the protocol of an
OpenAI-compatible endpoint over HTTP and sends replies chosen by a script. Only our side is tested against it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 400  # vLLM takes 40 s alone, minutes beside other work

Script = Callable[[dict[str, Any], int], "str | Response | dict[str, Any] | None"]


@dataclass
class ScriptedTeacher:
    """Plays `script(body of the request, number of requests before it)`: a text, None for a refusal, a message, or a
    whole response (an error, garbage); for embeddings the JSON of a list of vectors. Every request is kept."""

    script: Script
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    busiest: int = 0  # requests under way at once
    delay_s: float = 0.0
    _open: int = 0

    def text(self, index: int) -> str:
        """All text of the last message of a request."""
        return text_of(self.requests[index]["messages"][-1]["content"])


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


@contextmanager
def scripted_teacher(script: Script, delay_s: float = 0.0) -> Iterator[ScriptedTeacher]:
    """A scripted teacher on a free port of this machine, until the context ends."""
    import asyncio

    teacher = ScriptedTeacher(script, delay_s=delay_s)
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = await request.json()
        number = len(teacher.requests)
        teacher.requests.append(body)
        teacher.headers.append(dict(request.headers))
        teacher._open += 1
        teacher.busiest = max(teacher.busiest, teacher._open)
        try:
            if teacher.delay_s:
                await asyncio.sleep(teacher.delay_s)
            played = [teacher.script(body, number) for _ in range(body.get("n", 1))]
        finally:
            teacher._open -= 1
        if isinstance(played[0], Response):
            return played[0]
        choices = [_choice(index, reply) for index, reply in enumerate(played)]
        usage = {"prompt_tokens": 100, "completion_tokens": 10 * len(choices)}
        # ensure_ascii: lone surrogates travel as escapes, as a broken server may send them
        content = json.dumps({"object": "chat.completion", "choices": choices, "usage": usage})
        return Response(content, media_type="application/json")

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        body = await request.json()
        teacher.requests.append(body)
        played = teacher.script(body, len(teacher.requests) - 1)
        if isinstance(played, Response):
            return played
        data = [
            {"object": "embedding", "index": i, "embedding": v}
            for i, v in enumerate(json.loads(played or "[]"))
        ]
        content = {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 7}}
        return JSONResponse(content)

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        teacher.url = f"http://127.0.0.1:{port}/v1"
        yield teacher
    finally:
        server.should_exit = True
        thread.join()


def error(status: int, message: str = "no") -> Response:
    """An error of the endpoint, which asks for a retry at once: tests are short."""
    return JSONResponse({"error": {"message": message}}, status, headers={"retry-after-ms": "1"})


def _choice(index: int, reply: Any) -> dict[str, Any]:
    if isinstance(reply, dict):
        return {"index": index, "finish_reason": "stop"} | reply
    message = {"role": "assistant", "content": reply}
    return {
        "index": index,
        "finish_reason": "stop" if reply is not None else "content_filter",
        "message": message,
    }


@dataclass(frozen=True)
class VLLMServer:
    """A running vLLM server. url: with the version. model: as it is served. folder: of the model."""

    url: str
    model: str
    folder: Path

    def requests(self) -> float:
        """Requests that have run to their end, as the server counts them."""
        text = httpx.get(self.url.removesuffix("/v1") + "/metrics", trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith("vllm:request_success_total")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@contextmanager
def vllm_server(model_path: Path, log: Path, *arguments: str) -> Iterator[VLLMServer]:
    """vLLM's OpenAI server on the CPU with a tiny model, served as "tiny". arguments: more of its command's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # vLLM looks at the model's class in child processes, and each needs `import core` before torchvision
    (log.parent / "sitecustomize.py").write_text("import core\n")
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model_path), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "2048"),
        *("--enforce-eager", "--max-num-seqs", "32", "--generation-config", "vllm", "--block-size", "32"),
        *(
            "--skip-mm-profiling",
            "--trust-request-mm-kwargs",
            "--limit-mm-per-prompt",
            '{"image": 8, "video": 1}',
        ),
        *arguments,
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(log.parent), str(REPOSITORY)]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.5)
        yield VLLMServer(f"{url}/v1", "tiny", model_path)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
