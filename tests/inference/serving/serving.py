"""The endpoint as a server with a real engine, and requests to it."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import uvicorn
from PIL import Image

from engines.build import build_engine
from inference.serving.config import ServeConfig
from inference.serving.service import create_app


class Engine:
    """The real engine; `delay` makes it slow, `failures` is how often its next calls raise."""

    def __init__(self, bench: Any, processor: Any) -> None:
        self._engine = build_engine(bench.engine.config, bench.path, processor, device="cpu")
        self.config, self.version = self._engine.config, 0
        self.delay, self.failures, self.calls, self.closed = 0.0, 0, 0, False

    def generate(self, requests: Any, sampling: Any) -> Any:
        self.calls += 1
        time.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self._engine.generate(requests, sampling)

    def close(self) -> None:
        self.closed = True


class Server:
    """An endpoint on a free port, its engines (one after the other), and clients for it."""

    def __init__(self, bench: Any, **settings: Any) -> None:
        defaults = {
            "model": {"path": str(bench.path)},
            "max_tokens": 60,
            "slice_tokens": 8,
            "port": 0,
            "name": "tiny",
        }
        engine = {"kind": "transformers", "max_model_len": 1024}
        self.config = ServeConfig.model_validate({**defaults, "engine": engine, **settings})
        self.engines: list[Engine] = []

        def build(processor: Any) -> Engine:
            self.engines.append(Engine(bench, processor))
            return self.engines[-1]

        self.app = create_app(self.config, build)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="secret", max_retries=0)

    @property
    def engine(self) -> Engine:
        return self.engines[-1]

    def ask(self, content: Any = "What is 1 + 2?", **fields: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        extra = {
            name: fields.pop(name)
            for name in ("method", "budget", "stages", "tree", "task")
            if name in fields
        }
        return self.client.chat.completions.create(
            model="tiny", messages=messages, extra_body=extra, **fields
        )

    def idle(self) -> bool:
        served = self.app.state.served
        return served.places.taken == 0 and served.engine.busy == 0

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@contextmanager
def serving(bench: Any, **settings: Any) -> Iterator[Server]:
    server = Server(bench, **settings)
    try:
        yield server
    finally:
        server.close()
    assert server.engine.closed


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def picture(width: int = 56, height: int = 28) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def with_image(url: str, text: str = "What is 1 + 2?") -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
