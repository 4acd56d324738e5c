"""Data types of search at inference time: a question and its account, calls for completions, answers.

Every method (`best_of_n`, `stage_beam`, `sentence_beam`, `retracing`) is a generator: it yields calls for completions and
scores, receives the replies, and returns an `Answer`. It never touches the engine, so `inference.rounds` can batch the calls
of any number of searches by any methods, and what a search used is counted in one place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.rows import Row
from engines.rollout import Finish, Request, Rollout, Sampling
from engines.samples import ScoreFunction
from vlm.inputs import Encoded, extend

Selector = Callable[[Row, str, Sequence[Rollout]], int | Sequence[float | None]]
"""`select(row, prefix, candidates) -> index of the best candidate, or one score for each`.

prefix: text of the answer so far (empty for whole answers). candidates: at least one; their `text`, `completion_ids` and
`logprobs` are of what follows the prefix. The form of a judge that a user writes.
"""


@dataclass(frozen=True)
class Generate:
    """Call for `request.n` completions of one prompt; the reply is a list of rollouts. judge: a judge wants to read them, so
    their tokens count as judged."""

    request: Request
    sampling: Sampling
    judge: bool = False


@dataclass(frozen=True)
class Rate:
    """Call for the scores of some texts that answer a row; the reply is a list of `core.score.Score`. score: a router's
    `score`. Calls of many searches to the same function are made as one, so that a reward model sees whole batches."""

    score: ScoreFunction
    row: Row
    texts: Sequence[str]
    ids: Sequence[Sequence[int]]


Calls = Sequence[Generate | Rate]
Replies = Sequence[list[Any]]
"""The reply to each call."""


@dataclass
class Account:
    """What one answer has cost.

    tokens_generated: sampled for candidates, those that lost included.
    tokens_judged: read and written by judges that read: a judging model's prompts and verdicts, the texts that a reward
        function scored. Votes and log-probs are free.
    seconds: from the first call to the answer. Searches that run together each count the whole time.
    engine_calls: how often the search waited for the engine; calls that are made together count once.
    coin_tosses: decisions of a judge that were left to chance, because its verdicts could not be read or disagreed.
    retraces: how often the search went back a stage.
    """

    tokens_generated: int = 0
    tokens_judged: int = 0
    seconds: float = 0.0
    engine_calls: int = 0
    coin_tosses: int = 0
    retraces: int = 0

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Budget:
    """Limits on the account; None: no limit. A search that reaches one stops branching and judging: it completes its best
    answer so far with a single candidate for each stage that is left, so an answer is always returned."""

    tokens: int | None = None  # generated and judged together
    seconds: float | None = None
    engine_calls: int | None = None

    def reached(self, spent: Account, seconds: float) -> bool:
        return any(
            limit is not None and used >= limit
            for limit, used in (
                (self.tokens, spent.tokens_generated + spent.tokens_judged),
                (self.seconds, seconds),
                (self.engine_calls, spent.engine_calls),
            )
        )


@dataclass
class Node:
    """One candidate of the search tree: what was sampled after `parent` (None: after the prompt).

    stage: name of the block, `sentence` or `answer`. score: the judge's. kept: the search went on from it, or chose it.
    in_grammar: the answer keeps the grammar up to here. finish: None while the answer goes on.
    """

    parent: int | None
    stage: str
    text: str
    tokens: int
    in_grammar: bool
    finish: Finish | None
    score: float | None = None
    kept: bool = False


@dataclass(eq=False)
class Question:
    """One row's question, how to sample answers to it, and the record of its search.

    names: blocks of the grammar; None: answers are plain text.
    temperature: of candidates, above 0 where there are several. max_tokens: of a whole answer, the context's limit
        included. seed: makes the search reproducible on the same engine in the same company.
    watch: called with the index of each node when it is new and when it has changed.
    partial: called with the text of a lone completion while it grows, where it is generated in slices.
    """

    row: Row
    prompt: Encoded
    processor: Any
    names: tuple[str, ...] | None
    max_tokens: int
    temperature: float = 1.0
    seed: int | None = None
    budget: Budget = Budget()
    watch: Callable[[int], None] = lambda index: None
    partial: Callable[[str], None] = lambda text: None
    spent: Account = field(default_factory=Account)
    tree: list[Node] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def out_of_budget(self) -> bool:
        return self.budget.reached(self.spent, time.perf_counter() - self.began)

    def sampling(self, max_tokens: int, *, stop: tuple[str, ...] = (), greedy: bool = False) -> Sampling:
        """How to sample the next call. Each call of a search has its own seed."""
        temperature = 0.0 if greedy else self.temperature
        seed = None if self.seed is None else self.seed + SEED_STRIDE * self.spent.engine_calls
        return Sampling(temperature, max_tokens, seed, stop)


SEED_STRIDE = 1_000_003  # between the seeds of one call of a search and the next


@dataclass(frozen=True, eq=False)
class Branch:
    """The beginning of an answer, or a whole one.

    ids, logprobs, text: of everything so far, token for token as sampled. last: the rollout that was appended last; None at
    the root. node: its place in the tree. finish: why the answer ends here; None if it goes on.
    """

    question: Question
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    text: str = ""
    before: str = ""  # text without the last piece
    last: Rollout | None = None
    node: int | None = None
    finish: Finish | None = None

    @property
    def left(self) -> int:
        """Tokens that the answer may still get."""
        return self.question.max_tokens - len(self.ids)

    @property
    def piece(self) -> str:
        """Text that was appended last."""
        return self.text[len(self.before) :]

    def request(self, n: int) -> Request:
        """For `n` continuations."""
        question = self.question
        return Request(question.row, extend(question.prompt, self.ids) if self.ids else question.prompt, n)


@dataclass(frozen=True)
class Answer:
    """One row's answer. rollout: as one completion of the row's prompt, token for token as sampled. spent: what it cost.
    tree: every candidate of the search. chosen: the nodes from the first piece of the answer to its last."""

    rollout: Rollout
    spent: Account
    tree: tuple[Node, ...]
    chosen: tuple[int, ...]

    def tree_as_json(self) -> list[dict[str, Any]]:
        return [{"node": i, **asdict(node)} for i, node in enumerate(self.tree)]


Search = Generator[Calls, Replies, Answer]
"""A method at work on one question."""
Scores = Generator[Calls, Replies, list[float | None]]
"""A judge at work: a score for each candidate, higher is better; None: no opinion, below every score."""
Judge = Callable[[Question, str, Sequence[Branch]], Scores]
"""`judge(question, stage, candidates)`. stage: of the candidates' last piece (`Node.stage`)."""
Method = Callable[[Question], Search]


def answer_of(branch: Branch) -> Answer:
    """The answer that ends with `branch`, which is not the root."""
    question, chosen, node = branch.question, [], branch.node
    assert branch.last is not None
    question.spent.seconds = time.perf_counter() - question.began
    while node is not None:
        chosen.append(node)
        question.tree[node].kept = True
        node = question.tree[node].parent
    rollout = Rollout(
        row_id=question.row["id"],
        prompt=question.prompt,
        completion_ids=branch.ids,
        loss_mask=(1,) * len(branch.ids),
        logprobs=branch.logprobs,
        text=branch.text,
        policy_version=branch.last.policy_version,
        finish=branch.finish or "length",
    )
    return Answer(rollout, replace(question.spent), tuple(question.tree), tuple(reversed(chosen)))
