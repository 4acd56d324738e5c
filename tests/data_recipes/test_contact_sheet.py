"""The contact sheet shows rows as the model gets them, and the marks lie on what they name."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_recipes.__main__ import main
from data_recipes.contact_sheet import HEIGHT, MARK, TEXT, WIDTH, card, contact_sheet, marks
from rewards.geometry.frames import smart_resize

SIZE = (400, 240)
BOX = [40, 30, 120, 100]  # of the red square in the stored picture


def picture(path: Path, orientation: int = 1) -> tuple[str, list[int]]:
    """A red square on green with an EXIF orientation: its path, and the square's box on the upright picture."""
    image = Image.new("RGB", SIZE, (150, 200, 150))
    image.paste((220, 40, 40), tuple(BOX))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    ys, xs = np.nonzero(upright[..., 1] < 90)
    return str(path), [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]


def row(answer: dict, images: list[str] = (), videos: list[str] = ()) -> dict:
    content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    prompt = [{"role": "user", "content": [*content, {"type": "text", "text": "Where?"}]}]
    return {
        "id": "r",
        "task": "grounding",
        "prompt": prompt,
        "images": list(images),
        "videos": list(videos),
        "answer": answer,
    }


def places(image: Image.Image, wanted: np.ndarray | tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels of about a colour."""
    close = np.abs(np.asarray(image).astype(int) - np.array(wanted)).max(-1) < 40
    ys, xs = np.nonzero(close[:HEIGHT])
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("frame", ["pixel", "resized", "norm1000", "norm1"])
def test_boxes_lie_around_their_object_in_every_frame_and_orientation(tmp_path, orientation, frame):
    path, (x1, y1, x2, y2) = picture(tmp_path / "a.png", orientation)
    width, height = SIZE if orientation in (1, 3) else SIZE[::-1]
    tall, wide = smart_resize(height, width)
    extents = {"pixel": (width, height), "resized": (wide, tall), "norm1000": (1000, 1000), "norm1": (1, 1)}
    scale_x, scale_y = extents[frame][0] / width, extents[frame][1] / height
    box = [x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y]
    shown = card(row({"boxes": [box], "frame": frame}, [path]))
    around, square = places(shown, MARK), places(shown, (220, 40, 40))
    assert np.abs(np.array(around) - np.array(square)).max() <= 5  # the line lies just inside the edge


def test_marks_follow_the_size_that_the_model_sees(tmp_path):
    path, box = picture(tmp_path / "a.png")
    given = row({"box": box, "point": [200, 120], "frame": "pixel"}, [path])
    boxes, points = marks(given, (200, 120))
    assert boxes == [tuple(v / 2 for v in box)] and points == [(100, 60)]
    assert marks(row({"value": 3}), (10, 10)) == ([], [])


def test_boxes_of_actions_are_marked_too(tmp_path):
    path, box = picture(tmp_path / "a.png")
    drag = {"action": "drag", "start_box": box, "end_box": [0, 0, 10, 20], "frame": "pixel"}
    assert marks(row(drag, [path]) | {"task": "action"}, SIZE) == ([tuple(box), (0, 0, 10, 20)], [])
    assert marks(row({"action": "press", "keys": ["enter"]}, [path]), SIZE) == ([], [])


def test_frames_in_a_span_are_framed(tmp_path):
    path = tmp_path / "c.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(60):
            grey = np.full((48, 64, 3), 120, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())

    def framed(*spans: list[float]) -> int:
        shown = np.asarray(card(row({"spans": list(spans)}, videos=[str(path)]))).astype(int)
        return int((np.abs(shown - np.array(MARK)).max(-1) < 60).sum())

    assert framed() == 0 < framed([1.0, 2.0]) < framed([1.0, 4.0])


def test_a_row_that_cannot_be_shown_says_why(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    rows = [row({"boxes": [BOX]}, [str(tmp_path / "a.png")]), row({"value": 3})]
    assert contact_sheet(rows).size == (2 * WIDTH, HEIGHT + TEXT)


def test_inspect_writes_the_sheet_of_the_good_rows(tmp_path, capsys):
    path, box = picture(tmp_path / "a.png", 6)
    rows = [row({"boxes": [box], "frame": "pixel"}, [path]) | {"id": str(i)} for i in range(3)]
    rows.append(row({"boxes": [[0, 0, 999, 999]], "frame": "pixel"}, [path]) | {"id": "outside"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    main(["inspect", str(tmp_path / "rows.jsonl"), "--format", "rows", "--sheet", str(tmp_path / "out.png")])
    assert "out.png: 3 rows as the model gets them" in capsys.readouterr().out
    assert Image.open(tmp_path / "out.png").size == (3 * WIDTH, HEIGHT + TEXT)
