"""The browser as an environment: actions do what they say, whatever is written costs a turn at most, any worker can go on."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import PluginError
from data_recipes.readers import FORMATS
from environments.gui.environment import Screens
from environments.plugin import PluginEnvironment
from environments.types import CallError, Done, Observation
from rewards.config import RewardsConfig
from rewards.reading.actions import ACTIONS
from rewards.router import Router
from tests.environments.chromium import needs_chromium

BODY = """
<main class="form"><input type="text" aria-label="City" style="top: 10px"><input type="text" aria-label="Name" value="Al" style="top: 50px">
<label style="top: 90px"><input type="checkbox"> Gift</label><select aria-label="Size" style="top: 130px"><option>S<option>L</select>
<select aria-label="Fit" disabled style="top: 170px"><option>Slim<option>Wide</select>
<button class="primary" style="top: 210px">Send</button><a href="https://example.org/" style="top: 250px">Away</a>
<a href="file:///etc/passwd" target="_blank" style="top: 290px">File</a><button role="switch" aria-checked="false" aria-label="Wi-Fi" style="top: 330px">.</button>
<div role="slider" aria-label="Volume" aria-valuenow="50" style="top: 370px; width: 200px; height: 20px"><i class="thumb" style="left: 50%"></i></div><output style="top: 440px"></output>
<ul style="top: 900px"><li data-item="A"><button class="handle">=</button>A</li><li data-item="B"><button class="handle">=</button>B</li></ul></main>
"""
CSS = """
body { margin: 0; height: 1200px } main > * { position: absolute; left: 10px; width: 200px; height: 24px; box-sizing: border-box; margin: 0 }
.thumb { position: absolute; width: 20px; height: 20px; margin-left: -10px } li { height: 30px; margin: 0 } ul { padding: 0 }
"""
ROW = {"id": "r", "page": {"css": CSS, "body": BODY}, "view": [400, 500, 1.0], "images": []}
START = {"City": "", "Name": "Al", "Gift": False, "Size": "S", "Fit": "Slim", "Wi-Fi": False, "Volume": 50}


def act(name: str, **fields) -> str:
    return json.dumps({"action": name, **fields})


@pytest.fixture(scope="module")
def screens():
    made = Screens()
    yield made
    made.screen().close()


def after(screens: Screens, *turns: str) -> dict:
    state = screens.reset(ROW)
    for turn in turns:
        assert screens.respond(state, turn).size == (400, 500)
    return screens.outcome(state)["state"]


@needs_chromium
@pytest.mark.parametrize(
    ("turns", "changed"),
    [
        ([act("input", text="Riga", start_point=[60, 20])], {"City": "Riga"}),
        ([act("click", start_point=[60, 60]), act("input", text="ma")], {"Name": "Alma"}),
        ([act("click", start_point=[60, 60]), act("press", keys=["ctrl", "a"]), act("input", text="Bo")], {"Name": "Bo"}),
        ([act("click", start_point=[60, 60]), act("press", keys="backspace")], {"Name": "A"}),
        ([act("click", start_point=[60, 20]), act("press", keys=["tab"]), act("input", text="x")], {"Name": "x"}),
        ([act("click", start_point=[60, 100])], {"Gift": True}),
        ([act("click", start_point=[60, 140]), act("select", text="l")], {"Size": "L"}),
        ([act("select", text="L")], {"Size": "L"}),
        ([act("click", start_point=[60, 340])], {"Wi-Fi": True}),
        ([act("drag", start_point=[110, 380], end_point=[170, 380])], {"Volume": 80}),
        ([act("hover", start_point=[60, 100]), act("wait")], {}),
    ],
)  # fmt: skip
def test_actions_do_what_they_say(screens, turns, changed):
    state = after(screens, *turns)
    assert state["fields"] == START | changed and state["pressed"] == []


@needs_chromium
def test_buttons_keys_scrolls_and_entries(screens):
    assert after(screens, act("click", start_point=[60, 220]))["pressed"] == ["Send"]
    assert after(screens, act("click", start_point=[60, 20]), act("press", keys="enter"))["pressed"] == [
        "Send"
    ]
    down = act("scroll", direction="down", scroll_distance=700)
    state = after(screens, down, act("drag", start_point=[20, 210], end_point=[100, 255]))
    assert state["order"] == ["B", "A"]
    assert after(screens, act("click", start_point=[60, 260]))["pressed"] == ["Away"]


@needs_chromium
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I would click on Send.", "expected exactly one action"),
        (
            act("click", start_point=[60, 20]) + act("click", start_point=[60, 60]),
            "expected exactly one action",
        ),
        (act("click", start_point=[400, 20]), "expected a point on the screen of 400 x 500"),
        (act("input", text="x"), "no field has the cursor"),
        (act("select", text="Wide"), "no drop-down list has this entry"),
        (act("scroll", direction="up"), "nothing here can be scrolled up"),
        (act("press", keys=["ctrl", "w"]), "expected one of enter"),
        (act("open", app="Terminal"), "this screen has no open"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(screens, text, problem):
    state = screens.reset(ROW)
    before = pickle.dumps(state)
    with pytest.raises(CallError, match=problem):
        screens.respond(state, text)
    assert pickle.dumps(state) == before and screens.respond(state, act("wait")) is not None
    assert screens.outcome(state)["state"]["fields"] == START


points = st.lists(
    st.one_of(st.integers(-10, 600), st.floats(), st.none(), st.booleans()), min_size=0, max_size=3
)
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["javascript:alert(1)", "file:///etc/passwd", "'); throw 1; ('", "\u2028</script>"]),
)
values = st.one_of(
    points,
    texts,
    st.sampled_from(["up", "down", "left", "right", "enter", "esc", "tab", "ctrl+a"]),
    st.integers(-5, 5000),
)
keys = st.sampled_from(
    ["start_point", "end_point", "text", "direction", "scroll_distance", "keys", "app", "status"]
)
inside = st.lists(st.integers(0, 499), min_size=2, max_size=2)
right = st.fixed_dictionaries({"start_point": inside, "end_point": inside, "text": texts, "direction": st.sampled_from(["up", "down", "left", "right"]), "keys": st.sampled_from(["enter", "tab", "ctrl+a", "del", "space", "f5"])})  # fmt: skip
wild = st.one_of(
    st.text(max_size=40),
    st.builds(lambda n, f: json.dumps({"action": n, **f}), st.sampled_from(sorted(ACTIONS)), st.dictionaries(keys, values)),
    st.builds(lambda n, f: json.dumps({"action": n, **{k: f[k] for k in ACTIONS[n][0] if k in f}}), st.sampled_from(["click", "drag", "input", "scroll", "press", "select", "hover"]), right),
)  # fmt: skip


@needs_chromium
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(wild, min_size=3, max_size=6))
def test_whatever_is_written_gives_a_screen_an_error_or_the_end(screens, turns):
    state = screens.reset(ROW)
    for turn in turns:
        try:
            shown = screens.respond(state, turn)
        except CallError:
            continue
        assert shown is None or shown.size == (400, 500)
    assert screens.screen().evaluate("location.href") == "about:blank"
    targets = screens.screen().browser.call("Target.getTargets")["targetInfos"]
    assert [target["url"] for target in targets if target["type"] == "page"] == ["about:blank"]
    assert set(screens.outcome(state)["state"]["fields"]) == set(START)


@needs_chromium
def test_any_worker_goes_on_where_another_stopped(screens):
    turns = [act("input", text="Riga", start_point=[60, 20]), act("scroll", direction="down", scroll_distance=40), act("click", start_point=[60, 60])]  # fmt: skip
    other = Screens()
    state = pickle.dumps(screens.reset(ROW))
    alone = screens.reset(ROW)
    for i, turn in enumerate(turns):
        mine = pickle.loads(state)  # noqa: S301 our own
        shown = (screens, other)[i % 2].respond(mine, turn)
        state = pickle.dumps(mine)
        assert shown.tobytes() == screens.respond(alone, turn).tobytes()
    assert mine == alone and alone["now"]["fields"]["Gift"]
    other.screen().close()


@needs_chromium
@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, "field 'page': expected"),
        (
            {"page": {"css": "", "body": ""}, "view": [400, 500]},
            "field 'view': expected .width, height, scale.",
        ),
        ({"page": {"css": "", "body": ""}, "view": [10**6, 500, 1]}, "field 'view': expected sides"),
    ],
)
def test_a_row_that_cannot_be_played_is_refused(screens, row, problem):
    with pytest.raises(ValueError, match=problem):
        screens.reset(row)


@needs_chromium
@pytest.mark.slow
def test_an_oracle_reaches_reward_one_in_worker_processes_and_nobody_else_does(tmp_path):
    world = FORMATS["synthetic_gui_tasks"]
    options = world.options(
        rows=2, sizes=((800, 600),), scales=(1.0, 1.5), frame="norm1000", difficulty=0.6, seed=4
    )
    rows = [row for record in world.read(tmp_path, options) for row in world.convert(record, options)]
    limits = {
        "special": (),
        "pixels": (0, 10**8),
        "workers": 2,
        "seconds_per_call": 60.0,
        "late_call_ends": False,
    }
    environment = PluginEnvironment("environments.gui.environment:Screens", {"frame": "norm1000"}, **limits)
    played, texts = [], []

    def play(row: dict, turns: list[str]) -> None:
        state = environment.reset({**row, "images": []})
        *steps, last = [environment.respond(state, turn) for turn in turns]
        assert all(isinstance(step, Observation) and step.error is None for step in steps)
        assert isinstance(last, Done) or turns[-1] != act("finished", status="success")
        played.append({**row, "outcome": environment.outcome(state)})
        texts.append("\n".join(turns))

    try:
        for row in rows:
            oracle = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
            assert len(row["images"]) == len(oracle) > 2
            play(row, oracle)
            play(row, [*oracle[:-2], oracle[-1]])  # the button is not pressed
            play(row, oracle[-2:])  # nothing is filled in
        with pytest.raises(PluginError, match="row 'r': reset .*field 'page'"):
            environment.reset({"id": "r", "images": []})
    finally:
        environment.close()
    with Router(RewardsConfig.model_validate({"grammar": "none", "tasks": {"gui": "outcome"}})) as router:
        router.check_rows(rows)
        assert [score.reward for score in router.score(played, texts)] == [1.0, 0.0, 0.0] * 2
