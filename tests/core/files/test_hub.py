"""Hub ids in configs, with the real client libraries against a stand-in for the Hub (tests/hub_stand_in.py)."""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.files.hub.ids import HubError, HubId, hub_id
from core.files.hub.paths import model_folder, rows_files
from tests.hub_stand_in import StandIn, hub_stand_in

REPOSITORY = Path(__file__).parents[3]
WEIGHTS = random.Random(0).randbytes(300_000)
MODEL = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"0" * 20_000,
    "original/a.safetensors": b"0" * 20_000,
}
PROGRAM = """
import sys
from core.files.hub.ids import HubError
from core.files.hub.paths import fetch, model_folder, rows_files
from core.processes.explained import explained
kind, *texts = sys.argv[1:]
with explained():
    for i, text in enumerate(texts):
        try:
            fetch({"model.path": text} if kind == "model" else {}, {"data.rows": text} if kind == "rows" else {})
            for path in [model_folder(text)] if kind == "model" else rows_files(text):
                print("GOT", path)
        except HubError as error:
            if i == len(texts) - 1:
                raise
            print("error:", error, file=sys.stderr)
"""


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with hub_stand_in() as server:
        yield server


def ask(
    hub: StandIn, home: Path, *texts: str, kind: str = "model", most_bytes: int | None = None, **env: str
):
    """A program that fetches what `texts` name; returns (exit code, paths that it got, stdout and stderr)."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, *texts],
        env=hub.environment(home, **env),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
        check=False,
    )
    got = [Path(line[4:]) for line in ran.stdout.splitlines() if line.startswith("GOT ")]
    return ran.returncode, got, ran.stdout + ran.stderr


def refused(hub: StandIn, home: Path, *texts: str, **options) -> list[str]:
    """The messages of a program that can get none of what `texts` name; there is no traceback."""
    code, got, said = ask(hub, home, *texts, **options)
    assert (code, got) == (1, []) and "Traceback" not in said, said
    messages = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(messages) == len(texts), said
    return messages


# ------------------------------------------------------------------------------------------------- what is an id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Qwen/Qwen3-VL-4B-Instruct", HubId("Qwen/Qwen3-VL-4B-Instruct")),
        ("me/rows@refs/pr/3", HubId("me/rows", "refs/pr/3")),
        ("me/rows:test", HubId("me/rows", None, "test")),
        ("me/rows@v1.0:small/test", HubId("me/rows", "v1.0", "small/test")),
    ],
)
def test_hub_ids(text, expected):
    assert hub_id(text, "dataset") == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "rows",
            "./rows",
            "../runs/final",
            "runs/sft/final",
            "/runs/final",
            "data/rows.jsonl",
            "data/rows.parquet",
        ),
        *(
            "me/rows@",
            "me/rows:",
            "me/ro ws",
            "me/-rows",
            "me/a--b",
            "",
            "~/rows",
            "a/b.git",
            "http://host/a",
            "mé/rows",
        ),
    ],
)
def test_other_texts_are_paths(text):
    assert hub_id(text, "dataset") is None


def test_a_model_has_no_split():
    assert hub_id("me/tiny:train", "model") is None


def test_a_path_that_exists_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "tiny").mkdir(parents=True)
    assert hub_id("me/tiny", "model") is None
    assert model_folder("me/tiny") == Path("me/tiny") and rows_files("me/tiny") == [Path("me/tiny")]


@pytest.mark.parametrize(
    ("get", "form"), [(model_folder, "owner/name@revision"), (rows_files, "owner/name:split")]
)
def test_what_is_neither_a_path_nor_an_id_is_refused_with_what_was_expected(get, form):
    with pytest.raises(HubError, match=rf"no where.*; expected a .*{form}"):
        get("no where")


# ------------------------------------------------------------------------------------------------------ downloads


def test_a_model_is_downloaded_once_and_only_the_files_that_are_read(hub, tmp_path):
    commit = hub.add("model", "me/tiny", MODEL)
    code, (folder,), said = ask(hub, tmp_path, "me/tiny")
    assert code == 0 and folder.name == commit and f"me/tiny: commit {commit}" in said
    assert "downloading 300,002 bytes" in said and "Fetching 2 files: 100%" in said
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    hub.requests.clear()
    assert ask(hub, tmp_path, "me/tiny")[1] == [folder]
    assert hub.requests == ["GET /api/models/me/tiny"]  # whether there is a newer commit


def test_a_download_that_is_cut_off_goes_on_where_it_was(hub, tmp_path):
    hub.add("model", "me/tiny", MODEL)
    hub.cuts["model.safetensors"] = [100_000, 1]
    code, (folder,), _ = ask(hub, tmp_path, "me/tiny")
    assert code == 0 and (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.requests.count(f"GET /me/tiny/resolve/{folder.name}/model.safetensors") == 3


def test_after_a_download_that_failed_the_same_command_fetches_the_rest(hub, tmp_path):
    hub.add("model", "me/tiny", MODEL)
    hub.repositories["model", "me/tiny"].lost.add("model.safetensors")
    (message,) = refused(hub, tmp_path, "me/tiny")
    assert "model.path: me/tiny: " in message and "status 500" in message
    assert "no whole copy" in refused(hub, tmp_path, "me/tiny", HF_HUB_OFFLINE="1")[0]  # half a model is none
    hub.repositories["model", "me/tiny"].lost.clear()
    hub.requests.clear()
    code, (folder,), _ = ask(hub, tmp_path, "me/tiny")
    assert code == 0 and (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not [r for r in hub.requests if r.endswith("config.json")]


def test_of_several_processes_one_downloads(hub, tmp_path):
    hub.add("model", "me/tiny", MODEL)
    hub.delay_s = 0.5
    command = [sys.executable, "-c", PROGRAM, "model", "me/tiny"]
    processes = [
        subprocess.Popen(
            command, env=hub.environment(tmp_path, RANK=str(rank)), cwd=REPOSITORY, text=True, stdout=-1
        )
        for rank in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert len({line for text in said for line in text.splitlines() if line.startswith("GOT")}) == 1
    assert sum("downloading" in text for text in said) == 1
    assert sum(r.startswith("GET") and r.endswith("model.safetensors") for r in hub.requests) == 1


def test_a_revision_is_pinned_by_tag_or_commit(hub, tmp_path):
    old = hub.add("model", "me/tiny", MODEL, "v1")
    new = hub.add("model", "me/tiny", MODEL | {"model.safetensors": WEIGHTS[::-1]})
    assert ask(hub, tmp_path, "me/tiny@v1")[1][0].name == old
    assert ask(hub, tmp_path, "me/tiny")[1][0].name == new
    hub.requests.clear()
    (folder,) = ask(hub, tmp_path, f"me/tiny@{old}")[1]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.requests == []  # a commit never changes


def test_offline_and_with_the_hub_out_of_reach_the_cache_is_used(hub, tmp_path):
    hub.add("model", "me/tiny", MODEL)
    (message,) = refused(hub, tmp_path, "me/tiny", HF_HUB_OFFLINE="1")
    assert (
        message.startswith("error: model.path: me/tiny: HF_HUB_OFFLINE is set") and str(tmp_path) in message
    )
    (folder,) = ask(hub, tmp_path, "me/tiny")[1]
    hub.requests.clear()
    assert ask(hub, tmp_path, "me/tiny", HF_HUB_OFFLINE="1")[1] == [folder]
    assert hub.requests == []
    nobody = "http://127.0.0.1:9"
    code, got, said = ask(hub, tmp_path, "me/tiny", HF_ENDPOINT=nobody)
    assert (code, got) == (0, [folder]) and "Could not reach the Hub" in said
    assert (
        f"the Hub at {nobody} cannot be reached" in refused(hub, tmp_path, "me/other", HF_ENDPOINT=nobody)[0]
    )


def test_what_the_hub_refuses_is_said_with_what_to_do(hub, tmp_path):
    for name, access in (("gated", "gated"), ("mine", "forbidden")):
        hub.add("model", f"me/{name}", MODEL)
        hub.repositories["model", f"me/{name}"].access = access
    hub.add("model", "me/tiny", MODEL)
    hub.add("model", "me/torch", {"config.json": b"{}", "pytorch_model.bin": b"0"})
    expected = {
        "me/none": f"me/none: no such path here, and no model of that name at {hub.url}; expected a folder, or a model",
        "me/gated": f"me/gated: a gated model: ask for access at {hub.url}/me/gated, then log in",
        "me/mine": "me/mine: .* answered with status 403, no access with the token of this machine",
        "me/tiny@v9": "me/tiny@v9: no revision 'v9' of this model; expected a branch, a tag or a commit",
        "me/torch": "me/torch: expected a model with weights in .safetensors files, got config.json, pytorch_model.bin",
    }
    for message, says in zip(refused(hub, tmp_path, *expected), expected.values(), strict=True):
        assert re.match(f"error: model.path: {says}", message)
    hub.status = 503
    assert "503" in refused(hub, tmp_path, "me/tiny")[0]


def test_a_full_disk_is_named(hub, tmp_path):
    hub.add("model", "me/tiny", MODEL)
    (message,) = refused(hub, tmp_path, "me/tiny", most_bytes=100_000)
    assert "could not be written (file too large)" in message and "set HF_HOME to a larger disk" in message


# ------------------------------------------------------------------------------------------------------- data sets


def test_of_a_data_set_the_named_split_is_downloaded_and_media_with_it(hub, tmp_path):
    files = {f"data/{split}-00000-of-00001.parquet": split.encode() for split in ("train", "test")}
    commit = hub.add("dataset", "me/rows", files | {"images/1.png": b"png", "README.md": b"rows"})
    code, (file,), _ = ask(hub, tmp_path, "me/rows:test", kind="rows")
    folder = file.parents[1]
    assert code == 0 and folder.name == commit and file.read_bytes() == b"test"
    assert (folder / "images/1.png").is_file() and not (folder / "data/train-00000-of-00001.parquet").exists()
    assert ask(hub, tmp_path, "me/rows:test", kind="rows", HF_HUB_OFFLINE="1")[1] == [file]
    (message,) = refused(hub, tmp_path, "me/rows:train", kind="rows", HF_HUB_OFFLINE="1")
    assert "no whole copy" in message
    several, mistaken, unknown = refused(
        hub, tmp_path, "me/rows", "me/rows@train", "me/rows:dev", kind="rows"
    )
    assert "there are several: test, train; a split is named as me/rows:SPLIT" in several
    assert (
        "no revision 'train' of this data set" in mistaken
        and "(its split is named as me/rows:train)" in mistaken
    )
    assert unknown.startswith("error: data.rows: me/rows:dev: expected one of the splits test, train")


def test_the_environment_of_these_tests_has_no_hub():
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # tests/conftest.py
