"""Starting and resuming a run: which checkpoint is complete, which settings may change, which files are the user's."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel

from core.errors import RunError
from core.files.checksums import write_checksums
from core.files.record import Record, model_identity, rows_identity
from core.files.run_folder import begin, checkpoints, mark_finished, writing_checkpoint, writing_folder


class Optim(BaseModel):
    lr: float = 1e-6


class Config(BaseModel):
    steps: int = 4
    save_every: int = 2
    optim: Optim = Optim()


FREE = ("steps", "save_every")


def record(rows: str = "8 rows, content ab", **changes) -> Record:
    return Record(Config.model_validate(changes), {"rows": rows}, FREE)


def save(run: Path, *steps: int, keep: int | None = None) -> None:
    for step in steps:
        with writing_checkpoint(run, step, record(), keep) as folder:
            (folder / "state").mkdir()
            (folder / "model.bin").write_bytes(bytes([step]) * 1000)
            (folder / "state" / "random_states_0.pkl").write_bytes(bytes([step]) * 100)


def start(run: Path, now: Record | None = None, resume: str = "auto"):
    said: list[str] = []
    run.mkdir(exist_ok=True)
    return begin(run, now or record(), resume, ("steps",), said.append), "\n".join(said)


def test_a_fresh_folder_gets_the_config_and_what_the_run_reads(tmp_path):
    found, _ = start(tmp_path / "run")
    assert found.checkpoint is None and found.finished is None
    comment, _, config = (tmp_path / "run/config.yaml").read_text().partition("\n")
    assert (
        comment.startswith("# resolved config")
        and config == "steps: 4\nsave_every: 2\noptim:\n  lr: 1.0e-06\n"
    )
    identity = json.loads((tmp_path / "run/identity.json").read_text())
    assert identity["identity"] == {"rows": "8 rows, content ab"} and "torch" in identity["software"]


def test_the_newest_whole_checkpoint_is_taken_and_old_ones_go(tmp_path):
    save(tmp_path, 2, 4, 10, keep=2)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-10"]
    found, said = start(tmp_path)
    assert found.checkpoint == tmp_path / "checkpoint-10" and "going on from" in said


def test_folders_of_the_user_beside_checkpoints_are_left_alone(tmp_path):
    save(tmp_path, 2)
    for name in ("checkpoint-2-best", "checkpoint-best", "checkpoint-", "checkpoint-1.old"):
        shutil.copytree(tmp_path / "checkpoint-2", tmp_path / name)
    save(tmp_path, 3, 4, keep=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-4"]
    assert (tmp_path / "checkpoint-2-best").is_dir() and (tmp_path / "checkpoint-best").is_dir()
    assert start(tmp_path)[0].checkpoint == tmp_path / "checkpoint-4"


DAMAGE = {
    "cut": lambda f: os.truncate(f / "state/random_states_0.pkl", 40),
    "grown": lambda f: (f / "model.bin").write_bytes(b"0" * 2000),
    "changed": lambda f: (f / "model.bin").write_bytes(b"0" * 1000),
    "gone": lambda f: (f / "model.bin").unlink(),
    "record": lambda f: (f / "config.yaml").write_text("steps: 4\n"),
    "checksums": lambda f: (f / "checksums.json").write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, kind):
    save(tmp_path, 2, 4)
    DAMAGE[kind](tmp_path / "checkpoint-4")
    found, said = start(tmp_path)
    assert found.checkpoint == tmp_path / "checkpoint-2"
    assert "checkpoint-4 is damaged: " in said and "set aside as checkpoint-4.damaged" in said
    assert (tmp_path / "checkpoint-4.damaged").is_dir()
    save(tmp_path, 3, keep=1)  # the damaged one does not count among those that are kept
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-3"]


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew_by_itself(tmp_path):
    save(tmp_path, 2)
    DAMAGE["cut"](tmp_path / "checkpoint-2")
    with pytest.raises(RunError, match="no checkpoint is whole"):
        start(tmp_path)


def test_a_damaged_checkpoint_that_was_asked_for_is_refused(tmp_path):
    save(tmp_path, 2, 4)
    DAMAGE["cut"](tmp_path / "checkpoint-2")
    with pytest.raises(RunError, match=r"checkpoint-2 is damaged: state/random_states_0.pkl has 40 bytes"):
        start(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    with pytest.raises(FileNotFoundError, match="resume: no checkpoint at"):
        start(tmp_path, resume=str(tmp_path / "checkpoint-9"))


def test_going_back_to_an_earlier_checkpoint_sets_the_later_ones_aside(tmp_path):
    save(tmp_path, 2, 4, 6)
    found, _ = start(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    assert found.checkpoint == tmp_path / "checkpoint-2"
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-4.replaced").is_dir() and (tmp_path / "checkpoint-6.replaced").is_dir()


def test_what_may_change_is_told_and_the_rest_refused_by_name(tmp_path):
    save(tmp_path, 2)
    found, said = start(tmp_path, record(steps=9, save_every=1))
    assert found.checkpoint and "steps: 4 until then, 9 from now on" in said
    with pytest.raises(RunError) as caught:
        start(tmp_path, record(rows="5 rows, content cd", steps=9, optim={"lr": 2e-6}))
    message = str(caught.value)
    assert "optim.lr: 1e-06 then, 2e-06 now" in message
    assert "rows: '8 rows, content ab' then, '5 rows, content cd' now" in message
    assert "steps: 4" not in message and "another output_dir" in message


def test_a_field_that_is_new_since_has_its_default(tmp_path):
    with writing_checkpoint(tmp_path, 3, record(), None):
        pass
    identity = tmp_path / "checkpoint-3/identity.json"
    content = json.loads(identity.read_text())
    del content["config"]["optim"]
    identity.write_text(json.dumps(content))
    write_checksums(tmp_path / "checkpoint-3")
    assert start(tmp_path)[0].checkpoint == tmp_path / "checkpoint-3"


def test_a_config_of_the_user_in_the_run_folder_is_not_overwritten(tmp_path):
    (tmp_path / "config.yaml").write_text("# mine\nsteps: 4\n")
    start(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "# mine\nsteps: 4\n"


def test_a_finished_run_has_nothing_left_to_do_until_it_is_made_longer(tmp_path):
    save(tmp_path, 4)
    start(tmp_path)
    (tmp_path / "final").mkdir()
    mark_finished(tmp_path, 4, tmp_path / "final")
    found, said = start(tmp_path, record(save_every=1))
    assert found.finished == tmp_path / "final" and "finished already, at step 4" in said
    with pytest.raises(RunError, match=r"optim.lr"):
        start(tmp_path, record(optim={"lr": 1.0}))
    found, _ = start(tmp_path, record(steps=6))
    assert found.checkpoint == tmp_path / "checkpoint-4" and found.finished is None
    assert not (tmp_path / "finished.json").exists()


def test_a_finished_run_without_checkpoints_is_not_overwritten(tmp_path):
    start(tmp_path)
    (tmp_path / "final").mkdir()
    mark_finished(tmp_path, 4, tmp_path / "final")
    with pytest.raises(RunError, match="a finished run of 4 steps and no checkpoint"):
        start(tmp_path, record(steps=6))
    with pytest.raises(FileExistsError, match="an earlier run"):
        start(tmp_path, resume="never")


def test_a_full_disk_names_path_disk_and_bytes_and_leaves_the_last_checkpoint(tmp_path):
    """A file size limit simulates the full disk."""
    save(tmp_path, 2)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            save(tmp_path, 4)
        except RunError as error:
            (tmp_path / "said").write_text(str(error)[:499])
        os._exit(0)
    os.waitpid(child, 0)
    said = (tmp_path / "said").read_text()
    assert f"{tmp_path}/checkpoint-4: could not be written (file too large); the disk mounted at /" in said
    assert "bytes free; the newest checkpoint, checkpoint-2, takes " in said
    assert not (tmp_path / ".partial").exists()
    assert start(tmp_path)[0].checkpoint == tmp_path / "checkpoint-2"
    save(tmp_path, 4)
    assert start(tmp_path)[0].checkpoint == tmp_path / "checkpoint-4"


def test_a_kill_while_a_folder_is_written_leaves_the_old_one(tmp_path):
    with writing_folder(tmp_path / "final") as folder:
        (folder / "model.bin").write_text("old")
    child = os.fork()
    if not child:
        with writing_folder(tmp_path / "final") as folder:
            (folder / "model.bin").write_text("new")
            os._exit(9)
    os.waitpid(child, 0)
    assert (tmp_path / "final/model.bin").read_text() == "old"
    start(tmp_path)
    assert not (tmp_path / ".partial").exists()


def test_rows_are_known_by_their_content_wherever_they_lie(tmp_path):
    def rows(folder: Path, **changes) -> list[dict]:
        return [{"id": "a", "images": [str(folder / "a.png"), b"bytes"], "answer": {"value": "2"}} | changes]

    here, there = tmp_path / "here", tmp_path / "there"
    one = rows_identity(rows(here), here / "rows.jsonl")
    assert one == rows_identity(rows(there), there / "copy.jsonl") and one.startswith("1 rows, content ")
    assert one != rows_identity(rows(here, answer={"value": "3"}), here / "rows.jsonl")
    assert one != rows_identity(rows(here, images=[str(here / "a.png"), b"other"]), here / "rows.jsonl")


def test_a_model_is_known_by_its_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("weights")
    (tmp_path / "b/README.md").write_text("hello")
    assert model_identity(tmp_path / "a") == model_identity(tmp_path / "b")
    (tmp_path / "b/model.safetensors").write_text("weightz")
    assert model_identity(tmp_path / "a") != model_identity(tmp_path / "b")
