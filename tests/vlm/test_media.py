"""Videos are sampled in two passes that keep the wanted frames alone."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from vlm.media import DEFAULT_FPS, MediaError, load_video


def write_clip(path: Path, frames: int, rate: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A clip with B-frames in which every frame has a grey of its own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "0", "bf": "2"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"
        for i in range(frames):
            frame = np.full((size[1], size[0], 3), i * 255 // frames, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def all_frames(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Every frame, its time from the first, and the length: what sampling is compared with."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [(f.to_ndarray(format="rgb24"), float(f.time)) for f in container.decode(stream)]
        rate = float(stream.average_rate)
    times = np.array([t for _, t in decoded]) - decoded[0][1]
    return np.stack([f for f, _ in decoded]), times, float(times[-1] + 1 / rate)


@pytest.mark.parametrize("rate", [5, 24, 30])
@pytest.mark.parametrize(
    "options", [{}, {"start": 1.0}, {"start": 0.4, "end": 2.1}, {"fps": 3.7}, {"fps": 0.5}, {"fps": 60.0}]
)
@pytest.mark.parametrize("max_frames", [256, 6])
def test_each_time_gets_the_last_frame_shown_by_then(tmp_path, rate, options, max_frames):
    path = write_clip(tmp_path / "c.mp4", 3 * rate + 1, rate)
    frames, times, length = all_frames(path)
    start, end = options.get("start", 0.0), options.get("end", length)
    fps = options.get("fps", DEFAULT_FPS)
    count = max(2, round((end - start) * fps) // 2 * 2)
    if count > max_frames:
        count, fps = max_frames, max_frames / (end - start)
    expected = [frames[np.flatnonzero(times <= start + k / fps + 1e-6)[-1]] for k in range(count)]
    video = load_video({"path": str(path), **options}, max_frames=max_frames)
    assert video.fps == pytest.approx(fps) and video.start == start
    np.testing.assert_array_equal(video.frames, expected)
    np.testing.assert_array_equal(
        load_video({"bytes": path.read_bytes(), **options}, max_frames=max_frames).frames, expected
    )


def test_memory_is_that_of_the_wanted_frames(tmp_path):
    path = write_clip(tmp_path / "long.mp4", 300, 30, (320, 240))  # 69 MB of pixels
    tracemalloc.start()
    try:
        load_video(path, max_frames=8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_changed_file_is_decoded_anew(tmp_path):
    path = write_clip(tmp_path / "c.mp4", 20, 10)
    assert load_video(path).duration == 2.0
    write_clip(path, 40, 10)
    assert load_video(path).duration == 4.0


def test_a_range_outside_the_clip_names_both(tmp_path):
    path = write_clip(tmp_path / "c.mp4", 20, 10)
    with pytest.raises(MediaError, match=r"c\.mp4: range 5\.0 to 9\.0 s lies outside the clip of 2\.00 s"):
        load_video({"path": str(path), "start": 5.0, "end": 9.0})
