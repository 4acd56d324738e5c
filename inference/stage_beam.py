"""Beam search by stages (LLaVA-CoT, arXiv 2411.10440) and by sentences: choose after every piece, not only at the end.

Stages: for each stage of the grammar, in order, sample candidates until the stage's closing tag, keep the best one, continue
from it. One candidate survives a stage, as in the paper; "beam" is the number of candidates. The paper lets the model itself
judge pairs of candidates (`judges.by_pairs`); any judge chooses here.

Sentences: the paper's baseline, which is the same with the end of a sentence for a stage's end. A full stop ends a sentence
(in numbers too, as in the paper's code), and so do `!`, `?` and a line break.

The model continues its own tokens: the winner's ids are appended to the prompt as sampled, nothing is re-tokenised. A token
may extend beyond the closing tag (`><` is one in Qwen's vocabulary); it belongs to the winner, and the next stage starts
after it.

A candidate that breaks the grammar is chosen only where no other is there. If the winner has not closed its stage (the
model ended its answer, or the limit was reached), the answer ends there.
"""

from __future__ import annotations

from inference.branches import best, check_temperature, expand, width
from inference.types import Branch, Judge, Question, Search, answer_of

SENTENCE = "sentence"
SENTENCE_ENDS = (".", "!", "?", "\n")


def stage_beam(question: Question, judge: Judge, *, candidates: int) -> Search:
    """Chooses among `candidates` after each stage. The question's answers have a grammar."""
    check_temperature(question, candidates)
    assert question.names is not None
    branch = Branch(question)
    for stage in question.names:
        branch = yield from one_stage(branch, judge, stage, candidates)
        if branch.finish is not None:
            break
    return answer_of(branch)


def one_stage(branch: Branch, judge: Judge, stage: str, candidates: int):
    """The best of `candidates` continuations to the end of a stage."""
    found = yield from expand([branch], width(branch.question, candidates), stage, (f"</{stage}>",))
    [kept] = yield from best(judge, stage, found)
    return kept


def sentence_beam(question: Question, judge: Judge, *, candidates: int) -> Search:
    """Chooses among `candidates` after each sentence."""
    check_temperature(question, candidates)
    stop = SENTENCE_ENDS + ((f"</{question.names[-1]}>",) if question.names else ())
    branch = Branch(question)
    while branch.finish is None:
        found = yield from expand([branch], width(question, candidates), SENTENCE, stop)
        [branch] = yield from best(judge, SENTENCE, found)
    return answer_of(branch)
