"""Videos are sampled in two passes that keep only the wanted frames, and are decoded as players show them."""

from __future__ import annotations

import io
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from core.media import videos
from core.media.sources import MediaError
from core.media.videos import DEFAULT_FPS, frames_at, load_video, video_length
from vlm.media import load_media


def write_clip(path: Path, frames: int, rate: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A clip with B-frames in which every frame has a different grey."""
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


# ------------------------------------------------------------------------------------------------------------ display


def write_corner(path: Path, size: tuple[int, int] = (64, 32), frames: int = 10, **stream_options) -> Path:
    """White frames with a red top left quarter."""
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        for name, value in stream_options.items():
            setattr(stream.codec_context, name, value)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The clip with a display matrix in the track's header, as phones write it."""
    content = bytearray(path.read_bytes())
    one = 0x10000
    struct.pack_into(
        ">9i", content, content.index(b"tkhd") + 44, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(content)
    return path


def red_corner(frame: np.ndarray) -> str:
    corners = {"top left": (2, 2), "top right": (2, -3), "bottom left": (-3, 2), "bottom right": (-3, -3)}
    (found,) = (name for name, at in corners.items() if frame[at][1] < 100)
    return found


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), "top left"),
        ((0, 1, -1, 0), "top right"),  # a quarter turn to the right
        ((-1, 0, 0, -1), "bottom right"),
        ((0, -1, 1, 0), "bottom left"),
        ((-1, 0, 0, 1), "top right"),  # mirrored
        ((1, 0, 0, -1), "bottom left"),
        ((0, 1, 1, 0), "top left"),  # mirrored along the diagonal
        ((0, -1, -1, 0), "bottom right"),
    ],
)
def test_a_clip_is_turned_as_players_turn_it(tmp_path, matrix, corner):
    path = with_matrix(write_corner(tmp_path / "c.mp4"), *matrix)
    frame = load_video(path).frames[0]
    assert frame.shape[:2] == ((64, 32) if matrix[0] == 0 else (32, 64))
    assert red_corner(frame) == corner
    np.testing.assert_array_equal(frames_at(str(path), [0.0])[0], frame)


def test_an_odd_turn_is_refused_by_name(tmp_path):
    path = with_matrix(write_corner(tmp_path / "askew.mp4"), 1, 1, -1, 1)
    with pytest.raises(MediaError, match=r"askew\.mp4: expected a turn by a multiple of 90 degrees"):
        load_video(path)


def test_pixels_are_square(tmp_path):
    path = write_corner(tmp_path / "c.mp4", (48, 32), sample_aspect_ratio=Fraction(4, 3))
    assert load_video(path).frames.shape[1:3] == (32, 64)


def write_with_cover(path: Path, clip: Path | None) -> Path:
    """An MP4 with a cover picture in front, and the frames of `clip`, if any."""
    cover = io.BytesIO()
    Image.new("RGB", (200, 200), "blue").save(cover, "PNG")
    with av.open(str(path), "w") as target:
        picture = target.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 200, 200, "rgb24"
        picture.disposition = Disposition.attached_pic
        if clip:
            with av.open(str(clip)) as source:
                stream = target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = stream
                        target.mux(packet)
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 1000)
        target.mux(packet)
    content = path.read_bytes()
    start = content.index(b"moov") - 4  # the last atom of the file: its children may change places
    atoms, at = [], start + 8
    while at < len(content):
        size = struct.unpack_from(">I", content, at)[0]
        atoms.append(content[at : at + size])
        at += size
    atoms.sort(key=lambda atom: atom[4:8] == b"trak")
    path.write_bytes(content[: start + 8] + b"".join(atoms))
    return path


def test_a_cover_picture_is_not_the_video(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 20, 10)
    film = write_with_cover(tmp_path / "film.mp4", clip)
    with av.open(str(film)) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    np.testing.assert_array_equal(load_video(film).frames, load_video(clip).frames)
    assert video_length(film, decode=True) == pytest.approx(2.0, abs=0.01)
    with pytest.raises(MediaError, match=r"song\.mp4 with only a cover picture"):
        load_video(write_with_cover(tmp_path / "song.mp4", None))


def write_changing(path: Path) -> Path:
    """Ten frames of 64 x 48, then ten of 48 x 64."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        second = av.CodecContext.create("libx264", "w")
        second.width, second.height, second.pix_fmt = 48, 64, "yuv420p"
        second.time_base, second.framerate = Fraction(1, 10), 10
        for i in range(20):
            width, height = (64, 48) if i < 10 else (48, 64)
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 99, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            packets = (stream if i < 10 else second).encode(frame)
            packets += stream.encode() if i == 9 else second.encode() if i == 19 else []
            for packet in packets:
                packet.stream, packet.time_base = stream, Fraction(1, 10)
                container.mux(packet)
    return path


def test_frames_that_change_their_size_are_refused_by_name(tmp_path):
    path = write_changing(tmp_path / "change.mkv")
    for look in (load_video, lambda p: video_length(p, decode=True)):
        with pytest.raises(
            MediaError, match=r"change\.mkv: expected frames of one size, got 64x48 and then 48x64"
        ):
            look(path)
    assert load_video({"path": str(path), "end": 0.9}).frames.shape[1:3] == (48, 64)  # before the change


def test_clips_that_cannot_be_shown_are_refused_with_row_and_file(tmp_path, monkeypatch):
    whole = write_clip(tmp_path / "whole.mkv", 60, 10).read_bytes()
    clips = {
        "text.mp4": b"no video",
        "empty.mp4": b"",
        "head.mkv": whole[:600],
        "flat.mp4": write_corner(tmp_path / "flat.mp4", (804, 4)).read_bytes(),
    }
    for name, content in clips.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=rf"^row 'r7': .*{name.replace('.', '[.]')}"):
            load_media({"id": "r7", "videos": [str(tmp_path / name)]})
    monkeypatch.setattr(videos, "MAX_BYTES", 10_000)
    with pytest.raises(MediaError, match="expected at most .* GiB of frames, got 12 of 64x48"):
        load_video({"path": str(tmp_path / "whole.mkv")})


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    path = write_clip(tmp_path / "c.mp4", 20, 10)
    with pytest.raises(MediaError, match="expected a positive fps"):
        load_video({"path": str(path), "fps": fps})
