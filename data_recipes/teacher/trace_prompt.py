"""How a teacher is asked for a worked solution: in four stages, or as a thought and an answer."""

from __future__ import annotations

from collections.abc import Mapping

from core.rows import Row
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import Message, gold_text, prompt_parts, text_part

INSTRUCTION = """You write worked solutions that a vision-language model will learn from. Solve the problem below in four \
parts, each between its tags, with nothing outside them:

<SUMMARY>What the problem asks and how you will go about it, in two or three sentences. No results yet.</SUMMARY>
<CAPTION>What the image or video shows, as far as it matters to the question. For a problem without media: what is given.</CAPTION>
<REASONING>The solution, step by step. {reasoning}</REASONING>
<CONCLUSION>The final answer alone.</CONCLUSION>

Each tag stands exactly once, in this order, and every part has text in it."""

REASONING = {
    "short": "Every step follows from the image, the question or an earlier step.",
    "long": "Think at length: consider other ways, check intermediate results against the image, and correct yourself where a"
    " check fails, but say nothing twice.",
}

THINK_INSTRUCTION = """You write worked solutions that a vision-language model will learn from. Solve the problem below: {reasoning} Reply with \
<think>your thoughts</think><answer>the final answer alone</answer> and nothing outside the tags."""

OWN_THOUGHTS = """Solve the problem below. Reply with the final answer alone."""

SHOWN_ANSWER = """The standard answer is given for your orientation. Your conclusion must agree with it, but reason as if you \
did not know it: never mention that it was given."""

HINTS = {
    "choice": "The conclusion is the letter of the right option alone.",
    "math": "The conclusion is the result alone: a number, expression or word, without a sentence.",
    "counting": "The conclusion is one whole number in digits.",
    "grounding": "The conclusion is the box alone, as [x1, y1, x2, y2].",
    "pointing": "The conclusion is the point alone, as [x, y].",
    "temporal": "The conclusion is the span alone, as [mm:ss, mm:ss].",
}


def trace_messages(
    row: Row,
    endpoint: Endpoint,
    *,
    grammar: str,
    thought: str,
    instruction: str | None,
    hints: Mapping[str, str],
    show_answer: bool,
) -> list[Message]:
    """The one message that asks for a solution of the row's question, with its media. Raises MediaError.

    instruction, hints: in place of, and beside, the built-in ones. show_answer: tell the true answer.
    """
    asked = INSTRUCTION
    if grammar == "think":
        asked = OWN_THOUGHTS if endpoint.thoughts == "keep" else THINK_INSTRUCTION
    text = instruction or asked.format(reasoning=REASONING[thought])
    hint = (HINTS | dict(hints)).get(row["task"], "")
    gold = gold_text(row) if show_answer else None
    parts = [text_part("\n\n".join(filter(None, [text, hint])) + "\n\nProblem:")]
    parts += prompt_parts(row, endpoint)
    if gold is not None:
        parts.append(text_part(f"Standard answer: {gold}\n{SHOWN_ANSWER}"))
    if all(part["type"] == "text" for part in parts):
        return [{"role": "user", "content": "\n".join(part["text"] for part in parts)}]
    return [{"role": "user", "content": parts}]
