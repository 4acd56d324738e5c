"""Several sources in the shares of their budgets, resumed at any sequence, with unusable rows named and counted."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pretraining.documents import UnusableRow
from pretraining.mixture import Mixture
from pretraining.stream import stream_of
from vlm.inputs import Encoded
from vlm.packed.packing import Segment

BUDGETS = {"short": 3e6, "long": 1e6}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Rows that say how long their sequences are: short ones have one, long ones three."""
    folder = tmp_path_factory.mktemp("mixture")
    lengths = {"short": lambda i: [5 + i % 9], "long": lambda i: [40, 40, 1 + i % 30]}
    for kind, of in lengths.items():
        lines = (json.dumps({"id": i, "lengths": of(i)}) + "\n" for i in range(120))
        (folder / f"{kind}.jsonl").write_text("".join(lines))
    return {kind: folder / f"{kind}.jsonl" for kind in lengths}


def encode(where: str, record: dict, folder: Path) -> list[Segment]:
    """Sequences of one token, the row's number, in their lengths."""
    if record.get("bad"):
        raise UnusableRow(f"{where}: bad")
    ids = [torch.full((length,), record["id"]) for length in record["lengths"]]
    return [Segment.untrained(Encoded(i, torch.zeros(3, len(i)), engine_ids=())) for i in ids]


def mixture(files, rank: int = 0, ranks: int = 1, **options) -> Mixture:
    streams = {
        kind: stream_of(path, seed=1, rank=rank, ranks=ranks, buffer=16) for kind, path in files.items()
    }
    return Mixture(streams, BUDGETS, encode, **options)


def taken(mix: Mixture, count: int) -> list[tuple[str, int, int]]:
    """(kind, row, length) of the next sequences."""
    found = (mix.take() for _ in range(count))
    return [(kind, int(segment.sequence.input_ids[0]), len(segment)) for kind, segment in found]


def test_shares_hold_at_any_time(files):
    mix, tokens = mixture(files), Counter()
    for kind, _, length in taken(mix, 2000):
        tokens[kind] += length
        assert abs(tokens["short"] - 3 * tokens["long"]) <= 3 * 40
    assert mix.tokens == tokens.total()


def test_steps_add_up_to_their_tokens(files):
    """What a step takes too much the next one takes less."""
    mix, sums = mixture(files), []
    for step in range(1, 30):
        sums.append(sum(len(segment) for _, segment in mix.take_until(step * 100.0)))
        assert 0 <= sum(sums) - step * 100 < 40
    assert min(sums) < 100 < max(sums)


def test_a_mixture_goes_on_at_any_sequence(files):
    """Also between two sequences of one row."""
    mix = mixture(files)
    states, unbroken = [], []
    for _ in range(400):
        unbroken += taken(mix, 1)
        states.append(json.dumps(mix.state_dict()))
    assert any(json.loads(state)["long"]["taken"] == 2 for state in states)
    for at in (*range(1, 60), 399):
        again = mixture(files)
        again.load_state_dict(json.loads(states[at - 1]))
        assert taken(again, 5) == unbroken[at : at + 5] or at > 395


def test_rows_encoded_in_advance_are_the_same(files):
    with ThreadPoolExecutor(2) as pool:
        ahead = mixture(files, pool=pool)
        plain = mixture(files)
        assert taken(ahead, 300) == taken(plain, 300)
        assert ahead.state_dict() == plain.state_dict()


def test_processes_share_every_source(files):
    both = [taken(mixture(files, rank, 2), 50) for rank in range(2)]
    rows = [{(kind, row) for kind, row, _ in one} for one in both]
    assert not rows[0] & rows[1]


def test_split_rows_are_counted(files):
    mix = mixture(files)
    taken(mix, 500)
    short, long = (mix.sources[kind].counts for kind in ("short", "long"))
    assert short.split == 0 and short.rows > 100
    assert long.split == long.rows > 10


@pytest.fixture
def with_bad(files, tmp_path) -> dict[str, Path]:
    lines = [json.dumps({"id": i, "lengths": [9], "bad": i % 50 == 7}) + "\n" for i in range(200)]
    (tmp_path / "short.jsonl").write_text("".join(lines))
    return files | {"short": tmp_path / "short.jsonl"}


def test_unusable_rows_are_named_counted_and_left_out(with_bad, capfd):
    mix = mixture(with_bad, most_bad=0.05)
    while mix.sources["short"].counts.rows < 200:
        taken(mix, 1)
    assert mix.sources["short"].counts.bad == 4
    assert capfd.readouterr().err.count("left out: ") == 4


@pytest.mark.parametrize(("most", "bad"), [(0.0, 1), (0.001, 2)])
def test_too_many_unusable_rows_stop_the_run(with_bad, most, bad):
    with pytest.raises(
        UnusableRow, match=rf"short.jsonl at byte .*: bad\n{bad} of the .*max_bad_rows = {most:g}"
    ):
        taken(mixture(with_bad, most_bad=most), 2000)
