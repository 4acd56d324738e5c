"""Plays episodes on any rollout engine: each is one rollout, whose turns the policy samples and between which the environment
answers.

All episodes advance continuously: as soon as an observation is ready, its follow-up joins the running batch, whatever the
others do. Tools run, and observations are preprocessed, in threads beside generation. Token ids are only ever appended: those
that were sampled stay as they were sampled, and earlier turns are never encoded again.

    prompt | turn 1, sampled | end of turn, observation, next turn's beginning | turn 2, sampled | …
    mask     1                 0                                                 1
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from core.rows import Row
from engines.engine import Engine, OnRollout
from engines.rollout import Finish, Request, Rollout, Sampling, Turn
from environments.build import build_environment
from environments.config import EnvironmentConfig
from environments.dialogue import as_message, images_of
from environments.types import Done, Environment, Observation, OverTurn
from vlm.inputs import Encoded, encode_ids, expanded_length, extend, joined, reply_ids


@dataclass
class Episode:
    """One episode under way. sequence: everything so far, without the turn that is being sampled."""

    request: Request
    sequence: Encoded
    state: Any = None
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


class Episodes:
    """Plays episodes in one environment. `generate` is called like an engine's.

    max_turns, max_images: budgets of an episode; None: no limit of its own. The context is the engine's max_model_len.
    max_failed_calls: one more failed call ends an episode, which is then not over a budget; None: no limit.
    threads: that run tools and preprocess observations.
    """

    def __init__(
        self,
        environment: Environment,
        processor: Any,
        *,
        max_turns: int | None = None,
        max_images: int | None = None,
        max_failed_calls: int | None = None,
        threads: int = 4,
    ) -> None:
        self.environment = environment
        self.processor = processor
        self.max_turns, self.max_images, self.max_failed_calls = max_turns, max_images, max_failed_calls
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="episodes")

    @classmethod
    def of(cls, config: EnvironmentConfig, processor: Any, *, max_turns: int | None = None) -> Episodes:
        """Those of a config. max_turns: another budget than the config's. Raises PluginError for what cannot be loaded."""
        return cls(
            build_environment(config, processor),
            processor,
            max_turns=max_turns or config.max_turns,
            max_images=config.max_images,
            max_failed_calls=config.max_failed_calls,
            threads=config.threads,
        )

    def generate(
        self,
        engine: Engine,
        requests: Sequence[Request],
        sampling: Sampling,
        on_rollout: OnRollout | None = None,
    ) -> list[Rollout]:
        """`request.n` episodes for each request, in order; `on_rollout` is called with each as soon as it ends, by one thread
        at a time. sampling: of each turn. Raises what `Engine.generate` and the environment's `reset` raise."""
        play = _Play(self, engine.config.max_model_len, engine.config.images_per_prompt, requests, on_rollout)
        stop = tuple(dict.fromkeys((*sampling.stop, *self.environment.stop)))
        try:
            engine.generate(requests, replace(sampling, stop=stop), self._answering(play))
        finally:
            play.close()
        return [play.finished[place] for place in range(len(play.episodes))]

    def close(self) -> None:
        """End the threads and the environment's processes."""
        self._threads.shutdown(cancel_futures=True)
        self.environment.close()

    def _answering(self, play: _Play) -> OnRollout:
        def answer(place: int, rollout: Rollout) -> Future[Request | None]:
            return self._threads.submit(play.advance, place, rollout)

        return answer


class _Play:
    """One call of `generate`."""

    def __init__(
        self,
        episodes: Episodes,
        max_tokens: int,
        max_images: int,
        requests: Sequence[Request],
        on_rollout: OnRollout | None,
    ) -> None:
        self.environment, self.processor = episodes.environment, episodes.processor
        self.max_turns, self.max_tokens = episodes.max_turns, max_tokens
        self.max_images = min(max_images, episodes.max_images or max_images)
        self.max_failed_calls = episodes.max_failed_calls
        self.episodes = [Episode(r, r.prompt) for r in requests for _ in range(r.n)]
        self.finished: dict[int, Rollout] = {}
        self._on_rollout = on_rollout
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def advance(self, place: int, turn: Rollout) -> Request | None:
        """The follow-up after a turn; None if the episode has ended."""
        episode = self.episodes[place]
        answer = self._answer(episode, turn)
        if isinstance(answer, Observation) and self._fails_too_often(episode, answer):
            self._finish(place, turn, "stop", None, replace(answer, content=()))
        elif isinstance(answer, Observation):
            sequence = self._observed(episode, turn, answer)
            if isinstance(sequence, Encoded):
                episode.sequence = sequence
                return Request(episode.request.row, sequence)
            self._finish(place, turn, "over_turn", sequence, replace(answer, content=()))
        elif isinstance(answer, Done):
            self._finish(place, turn, "over_turn" if answer.over_turn else "stop", answer.over_turn)
        else:
            self._finish(place, turn, answer, None)
        return None

    def _fails_too_often(self, episode: Episode, answer: Observation) -> bool:
        if answer.error is None or self.max_failed_calls is None:
            return False
        return sum(turn.error is not None for turn in episode.turns) >= self.max_failed_calls

    def _answer(self, episode: Episode, turn: Rollout) -> Observation | Done | Finish:
        """What the environment says to a turn, unless that was cut off."""
        if turn.finish != "stop":
            full = len(turn.prompt) + len(turn.completion_ids) >= self.max_tokens
            return Done("context") if full else turn.finish
        if episode.state is None:
            row: Row = {**episode.request.row, "images": list(episode.request.prompt.images)}
            episode.state = self.environment.reset(row)
        return self.environment.respond(episode.state, turn.text)

    def _observed(self, episode: Episode, turn: Rollout, observation: Observation) -> Encoded | OverTurn:
        """Everything so far with the turn and the observation behind it, which is added as a whole or not at all; or the budget
        that it would go over."""
        number = len(episode.turns) + 1
        if self.max_turns is not None and number >= self.max_turns:
            return "turns"
        images = images_of(observation.content)
        if len(episode.sequence.images) + len(images) > self.max_images:
            return "images"
        ids = reply_ids(self.processor, as_message(observation.content))
        if turn.completion_ids and turn.completion_ids[-1] == ids[0]:
            ids = ids[1:]  # the policy has ended the turn itself
        behind_turn = len(episode.sequence) + len(turn.completion_ids)
        if behind_turn + expanded_length(self.processor, ids, images, ()) >= self.max_tokens:
            return "context"
        reply = encode_ids(self.processor, ids, images)
        self._sampled(episode, turn, observation)
        episode.mask += [0] * len(reply)
        episode.logprobs += [0.0] * len(reply)
        return joined(extend(episode.sequence, turn.completion_ids), reply)

    def _sampled(self, episode: Episode, turn: Rollout, observation: Observation | None) -> None:
        start = len(episode.mask)
        episode.mask += turn.loss_mask
        episode.logprobs += turn.logprobs
        shown = observation or Observation(())
        episode.turns.append(
            Turn(
                text=turn.text,
                start=start,
                end=len(episode.mask),
                observation=shown.content,
                call=shown.call,
                error=shown.error,
                details=shown.details,
            )
        )

    def _finish(
        self,
        place: int,
        turn: Rollout,
        finish: Finish,
        over_turn: OverTurn | None,
        unseen: Observation | None = None,
    ) -> None:
        """The episode as one rollout. unseen: what its last turn called for and the policy is not shown."""
        episode = self.episodes[place]
        prompt = episode.request.prompt
        self._sampled(episode, turn, unseen)
        says = getattr(self.environment, "outcome", None)
        whole = extend(episode.sequence, turn.completion_ids)
        media = len(whole.images) > len(prompt.images)
        rollout = Rollout(
            row_id=turn.row_id,
            prompt=prompt,
            completion_ids=tuple(whole.input_ids[len(prompt) :].tolist()),
            loss_mask=tuple(episode.mask),
            logprobs=tuple(episode.logprobs),
            text="\n".join(one.text for one in episode.turns),
            policy_version=turn.policy_version,
            finish=finish,
            sequence=whole if media else None,
            over_turn=over_turn,
            turns=tuple(episode.turns),
            outcome=says(episode.state) if says is not None and episode.state is not None else None,
        )
        with self._lock:
            if self._closed:  # the call has failed
                return
            self.finished[place] = rollout
            if self._on_rollout is not None:
                self._on_rollout(place, rollout)
