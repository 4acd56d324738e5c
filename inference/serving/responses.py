"""Responses of the endpoint, in OpenAI's form; what the search adds is in the field `search`, and in `stage` of a stream's chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from inference.conclusions import conclusion_of, shown
from inference.serving.chat import Asked
from inference.types import Answer, Question


@dataclass(frozen=True)
class Replying:
    """What all parts of one response have in common. number: of the request; created: seconds since 1970."""

    number: str
    model: str
    asked: Asked
    question: Question
    created: int

    def completion(self, answer: Answer) -> dict[str, Any]:
        """The whole response."""
        message = {"role": "assistant", "content": self.text(answer), "refusal": None}
        return {
            **self._head("chat.completion"),
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(answer)}
            ],
            "usage": usage(answer),
            "search": self.search(answer),
        }

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        """An event of a stream."""
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return event({**self._head("chat.completion.chunk"), "choices": choices, **more})

    def stage(self, index: int) -> str:
        """An event for a stage that was chosen."""
        node = self.question.tree[index]
        said = {"name": node.stage, "text": node.text, "score": node.score, "node": index}
        return self.chunk({}, stage=said)

    def last(self, answer: Answer, sent: str) -> Iterator[str]:
        """The rest of the answer behind the text that was `sent`, and the end of the stream."""
        if rest := self.text(answer).removeprefix(sent):
            yield self.chunk({"content": rest})
        yield self.chunk({}, finish_reason(answer), search=self.search(answer))
        options = self.asked.body.stream_options
        if options and options.include_usage:
            yield event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)})
        yield "data: [DONE]\n\n"

    def text(self, answer: Answer) -> str:
        """What the user sees: the conclusion."""
        return shown(answer.rollout.text, self.question.names)

    def search(self, answer: Answer) -> dict[str, Any]:
        """How the answer was found."""
        text = answer.rollout.text
        found: dict[str, Any] = {
            "method": self.asked.method.title,
            "in_grammar": conclusion_of(text, self.question.names) is not None,
            "spent": answer.spent.as_json(),
        }
        if self.asked.body.stages:
            found["stages"] = [
                {"name": node.stage, "text": node.text, "score": node.score}
                for node in (answer.tree[i] for i in answer.chosen)
            ]
        if self.asked.body.tree:
            found |= {"tree": answer.tree_as_json(), "chosen": list(answer.chosen)}
        return found

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.number, "object": kind, "created": self.created, "model": self.model}


def finish_reason(answer: Answer) -> str:
    return "stop" if answer.rollout.finish == "stop" else "length"


def usage(answer: Answer) -> dict[str, int]:
    """Tokens of prompt and answer; what the search used besides is in `search.spent`."""
    prompt, completion = len(answer.rollout.prompt), len(answer.rollout.completion_ids)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def event(message: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(message, ensure_ascii=False)}\n\n"


def error_body(status: int, message: str, field: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error."""
    kind = (
        "invalid_request_error"
        if status < 500 and status != 429
        else "server_error"
        if status >= 500
        else "overloaded"
    )
    return {"error": {"message": message, "type": kind, "param": field, "code": status}}


def refusal(status: int, message: str, field: str | None = None, **headers: str) -> JSONResponse:
    return JSONResponse(error_body(status, message, field), status, headers)


def now() -> int:
    return int(time.time())
