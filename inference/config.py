"""Configuration of search: which model answers, the methods and judges, and the programs that run them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from core.config import Section
from core.files.paths import PathText
from engines.config import EngineConfig, VLLMConfig
from inference.retracing import PRESETS, Retracing
from rewards.config import RewardsConfig
from vlm.load import CheckpointConfig, LoadingConfig

MethodName = Literal["greedy", "best_of_n", "self_consistency", "stage_beam", "sentence_beam", "retracing"]
Grammar = Literal["stages", "think", "none"]
BY_PIECES = ("stage_beam", "sentence_beam", "retracing")
RETRACING_ONLY = ("preset", "keep", "retraces", "passing", "conclusions", "threshold")
UNSCALED = ("majority", "pairs")  # judges whose scores compare candidates of one choice alone


class BudgetConfig(Section):
    """Limits on one answer. A search that reaches one stops branching and completes its best answer so far."""

    tokens: int | None = Field(None, ge=1)
    """Tokens, generated and judged."""
    seconds: float | None = Field(None, gt=0)
    """Seconds since the search began."""
    engine_calls: int | None = Field(None, ge=1)
    """How often the search may wait for the engine."""


class JudgeConfig(Section):
    """A judge under a name of one's own. Without any entry, methods can name `mean_logprob`, `majority`, `pairs`, `reward` and
    functions (package.module:function or file.py:function)."""

    kind: Literal["pairs", "reward", "function"]
    """pairs: the model compares two candidates at a time. reward: reward functions. function: `select(row, prefix, candidates)`,
    which returns an index or one score for each."""
    both_orders: bool | None = None
    """pairs: show each pair twice, as 1-2 and 2-1; where the verdicts differ, a coin decides and is counted. null:
    once, in random order."""
    max_tokens: int | None = Field(None, ge=1)
    """pairs: longest verdict, in tokens; null: 256."""
    rewards: RewardsConfig | None = None
    """reward: the functions, by task: verifiers, reward models, judges behind `http`. With `grammar: none` they read the text so
    far, and can judge stages. null: the program's own rewards; where those read the ground truth, choosing by them is pass@N,
    an upper bound and not a result."""
    function: str | None = None
    """function: package.module:function or file.py:function."""

    @model_validator(mode="after")
    def _check(self) -> JudgeConfig:
        if (self.kind == "function") != (self.function is not None):
            raise ValueError("function: expected a function with kind: function, and with no other kind")
        if self.rewards is not None and self.kind != "reward":
            raise ValueError("rewards: only with kind: reward")
        if self.kind != "pairs" and not (self.both_orders is self.max_tokens is None):
            raise ValueError("both_orders, max_tokens: only with kind: pairs")
        return self


class MethodConfig(Section):
    """One method of search; its name alone stands for its defaults."""

    method: MethodName = "stage_beam"
    """greedy: no search. best_of_n: whole answers, chosen by `judge`. self_consistency: the same, chosen by vote. stage_beam: chosen
    after every stage (LLaVA-CoT). sentence_beam: after every sentence. retracing: stages, going back (SWIRES)."""
    candidates: int | None = Field(None, ge=1, le=1024)
    """Candidates at each choice; 1: one sample, no choice. null: 4, for retracing the preset's."""
    judge: str | None = None
    """Name of the judge; null: mean_logprob. greedy and self_consistency have none."""
    preset: Literal["paper", "code"] | None = None
    """retracing: constants of the paper, or of its released code (inference/retracing.py has both); null: the paper's."""
    keep: int | None = Field(None, ge=1)
    """retracing: captions that are kept of `candidates`; null: the preset's."""
    retraces: int | None = Field(None, ge=0)
    """retracing: how often it may go back; null: the preset's."""
    passing: int | None = Field(None, ge=1)
    """retracing: reasonings that must score above the threshold; null: the preset's."""
    conclusions: int | None = Field(None, ge=1)
    """retracing: reasonings that get a conclusion; null: the preset's."""
    threshold: float | PathText | None = None
    """retracing: a score of the judge, or the file that `python -m inference calibrate` wrote for it. null: the published one,
    which fits the published reward model alone, so only a judge that is a function may leave it out."""
    budget: BudgetConfig = BudgetConfig()
    """Limits on one answer."""
    name: str | None = None
    """Name in tables; null: made of the settings."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> MethodConfig:
        only = [name for name in RETRACING_ONLY if getattr(self, name) is not None]
        if self.method != "retracing" and only:
            raise ValueError(f"{', '.join(only)}: only with method: retracing")
        if self.method in ("greedy", "self_consistency") and self.judge is not None:
            raise ValueError(f"judge: {self.method} has none")
        if self.method == "greedy" and self.candidates is not None:
            raise ValueError("candidates: greedy has one")
        if self.method in BY_PIECES and self.judge == "majority":
            raise ValueError(
                "judge: majority counts conclusions, which the first stages do not have; expected mean_logprob, pairs, a judge of"
                " `judges`, package.module:function or file.py:function"
            )
        if self.method == "retracing":
            constants = self.constants()
            if constants.keep > constants.candidates:
                raise ValueError(
                    f"keep: expected at most {constants.candidates}, the number of candidates, got {constants.keep}"
                )
        return self

    @property
    def width(self) -> int:
        """Candidates at each choice."""
        return self.candidates or 4

    def constants(self) -> Retracing:
        """Those of retracing, without a threshold from a file."""
        names = ("candidates", "keep", "retraces", "passing", "conclusions", "threshold")
        given = {name: getattr(self, name) for name in names}
        changes: dict[str, Any] = {name: v for name, v in given.items() if isinstance(v, int | float)}
        return replace(PRESETS[self.preset or "paper"], **changes)

    @property
    def title(self) -> str:
        """Name in tables."""
        if self.name:
            return self.name
        if self.method == "greedy":
            return "greedy"
        judge = self.judge or "mean_logprob"
        if self.method == "retracing":
            return f"retracing ({self.preset or 'paper'}) by {judge}"
        if self.method == "self_consistency":
            return f"self-consistency of {self.width}"
        if self.method == "best_of_n":
            return "one sample" if self.width == 1 else f"best of {self.width} by {judge}"
        kind = self.method.replace("_", " ")
        return f"{kind} of 1" if self.width == 1 else f"{kind} of {self.width} by {judge}"


class SearchConfig(Section):
    """Which model answers, and how its answers are sampled and judged."""

    model: CheckpointConfig
    """The checkpoint that answers."""
    engine: EngineConfig = VLLMConfig()
    """The rollout engine that generates the answers."""
    judges: dict[str, JudgeConfig] = {}
    """Judges by name, beside those that need no settings."""
    temperature: float = Field(1.0, gt=0)
    """Of all candidates; `greedy` has none. LLaVA-CoT samples at 0.6 (with top-p 0.9)."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens, all stages together."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""

    @model_validator(mode="after")
    def _judge_names(self) -> SearchConfig:
        for name in self.judges:
            if name in ("mean_logprob", "majority", "pairs", "reward"):
                raise ValueError(f"judges: '{name}' is taken; give the judge a name of its own")
        return self

    def check_method(self, method: MethodConfig, grammar: Grammar, rewards: RewardsConfig | None) -> None:
        """Raise ValueError if the grammar or the judge does not fit the method. rewards: what the judge `reward` stands for."""
        stages = method.method in ("stage_beam", "retracing")
        if stages and grammar == "none":
            raise ValueError(f"{method.title}: answers without a grammar (grammar: none) have no stages")
        judge = self.judges.get(method.judge or "")
        kind = judge.kind if judge else method.judge or "mean_logprob"
        if kind == "reward":
            found = (judge.rewards if judge else None) or rewards
            if found is None:
                raise ValueError(f"{method.title}: no rewards; expected a judge of kind reward in `judges`")
            if method.method in BY_PIECES and found.grammar != "none":
                raise ValueError(
                    f"{method.title}: the judge reads the conclusion, which the first stages do not have yet; expected rewards with"
                    " `grammar: none`, whose functions read the text so far"
                )
        if method.method == "retracing":
            if kind in UNSCALED:
                raise ValueError(
                    f"{method.title}: the judge only compares candidates; retracing needs scores for its threshold: mean_logprob,"
                    " rewards or a function"
                )
            if method.threshold is None and kind in ("mean_logprob", "reward"):
                raise ValueError(
                    f"{method.title}: expected a threshold for this judge, a number or the file of `python -m inference calibrate`"
                )


class AnswerConfig(SearchConfig):
    """How single questions are answered, on the command line and behind the endpoint."""

    grammar: Grammar = "stages"
    """Grammar of the model's answers; of `stages` and `think` users see the last block alone."""
    method: MethodConfig = MethodConfig()
    """How to search, unless a request says."""

    @model_validator(mode="after")
    def _check_own_method(self) -> AnswerConfig:
        self.check_method(self.method, self.grammar, None)
        return self


class InferenceConfig(SearchConfig):
    """Settings of `python -m inference`. Every method answers the same rows with the same token limit per answer; costs are
    given in tokens, seconds and engine calls."""

    RENAMED: ClassVar[dict[str, str]] = {
        "output": "output_dir",
        "candidates": "methods (each has its own)",
        "best_of": "methods (best_of_n with a judge)",
        "stage_beam": "methods (stage_beam with a judge)",
        "selection_rewards": "judges (kind: reward)",
        **{name: f"model.{name}" for name in LoadingConfig.model_fields},
    }

    rows: PathText
    """Rows to answer (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder, or a Hub id
    (docs/hub.md)."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows; null: all."""
    rewards: RewardsConfig
    """Reward functions by task: they score every answer. `rewards.grammar` is the grammar of the answers."""
    methods: list[MethodConfig] = Field(min_length=1)
    """Methods to compare; `greedy` is always there, since all are compared with it."""
    output_dir: PathText
    """Folder for answers.jsonl, inference.json and tables; made if missing."""
    trees: bool = False
    """Write every candidate of every search to answers.jsonl, not only the answer."""
    seed: int = 0
    """Seed of the candidates. The greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Rows that are encoded and searched together; bounds the memory for images and videos."""

    @model_validator(mode="after")
    def _check(self) -> InferenceConfig:
        if not any(method.method == "greedy" for method in self.methods):
            self.methods = [MethodConfig(method="greedy"), *self.methods]
        titles = [method.title for method in self.methods]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"methods: two are called '{twice[0]}'; give them names")
        for method in self.methods:
            self.check_method(method, self.rewards.grammar, self.rewards)
        return self
