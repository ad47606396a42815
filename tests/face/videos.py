"""Small videos, made of faces that the tiny network knows: for the tests of video. PyAV writes them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray
from tests.face.tiny_network import band

CODECS = {
    "H.264": "libx264", "HEVC": "libx265", "VP9": "libvpx-vp9", "AV1": "libsvtav1", "MPEG-2": "mpeg2video",
    "MPEG-4": "mpeg4", "MJPEG": "mjpeg", "ProRes": "prores_ks", "DV": "dvvideo",
}  # fmt: skip
"""Name -> FFmpeg's encoder."""

PIXELS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}
OPTIONS = {
    "libx264": {"crf": "8", "preset": "ultrafast"},
    "libx265": {"crf": "8", "preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"crf": "8", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"crf": "10", "preset": "12"},
    "mpeg2video": {"qmin": "2", "qmax": "3"},
    "mpeg4": {"qmin": "2", "qmax": "3"},
    "mjpeg": {"qmin": "2", "qmax": "3"},
}
FIELDS = {"libx264": {"x264-params": "tff=1"}}
"""Options that make an encoder write fields, beside its flags."""


def scene(emotion: str | None, x: int = 48, width: int = 192, height: int = 96) -> NDArray[np.uint8]:
    """Black, with a face of 48 pixels at ``x``, or none: ``(H, W)``."""
    picture = np.zeros((height, width), np.uint8)
    if emotion is not None:
        picture[24:72, x : x + 48] = band(emotion)
    return picture


def write_video(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    times: Sequence[float] | None = None,
    codec: str = "mjpeg",
    **how: Any,
) -> Path:
    """Grey or RGB pictures of one size as a video, at 25 frames per second, or at ``times`` in seconds.

    ``how``: ``rotation`` (degrees against the clock), ``mirrored``, ``aspect`` of a pixel, ``interlaced``, ``options``
    of the encoder, ``container`` options, ``pixels`` (FFmpeg's name of their form), ``colours`` (attributes of the
    encoder), ``sound`` (seconds) in ``sound_codec`` from ``sound_start`` on, and ``second``, another stream's pictures.
    """
    with av.open(path, "w", options=how.get("container", {})) as file:
        stream = _stream(file, codec, pictures, times, how)
        other = _stream(file, codec, how["second"], times, {}) if "second" in how else None
        sound = file.add_stream(how.get("sound_codec", "aac"), 48_000, layout="mono") if "sound" in how else None
        for number, picture in enumerate(pictures):
            stamp = number if times is None else round(1000 * times[number])
            for each, shown in ((stream, picture), (other, how.get("second", pictures)[number])):
                if each is not None:
                    frame = _frame(shown, each.pix_fmt)
                    frame.pts, frame.time_base = stamp, each.codec_context.time_base
                    file.mux(each.encode(frame))
        if sound is not None:
            _write_sound(file, sound, how["sound"], how.get("sound_start", 0.0))
        for each in (stream, other, sound):
            if each is not None:
                file.mux(each.encode(None))
    return path


def _stream(file: Any, codec: str, pictures: Any, times: Any, how: dict[str, Any]) -> Any:
    options = {**OPTIONS.get(codec, {}), **how.get("options", {})}
    if how.get("interlaced"):
        options |= FIELDS.get(codec, {})
    stream = file.add_stream(codec, rate=25, options=options)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = how.get("pixels", PIXELS.get(codec, "yuv420p"))
    context = stream.codec_context
    context.time_base = Fraction(1, 25) if times is None else Fraction(1, 1000)
    context.thread_count = 1
    if "aspect" in how:
        context.sample_aspect_ratio = how["aspect"]
    if how.get("interlaced"):
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        context.field_order = 2  # top field first
    for name, value in how.get("colours", {}).items():
        setattr(context, name, value)
    if how.get("rotation") or how.get("mirrored"):
        stream.set_display_rotation(how.get("rotation", 0), hflip=bool(how.get("mirrored")))
    return stream


def _frame(picture: NDArray[np.uint8], kind: str) -> Any:
    rgb = picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb))
    return frame.reformat(format=kind)


def _write_sound(file: Any, stream: Any, seconds: float, start: float) -> None:
    samples = (8000 * np.sin(np.arange(round(48_000 * seconds)) * 2 * np.pi * 440 / 48_000)).astype(np.int16)
    for place in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, place : place + 1024], "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, place + round(48_000 * start)
        frame.time_base = Fraction(1, 48_000)
        file.mux(stream.encode(frame))


def index_first(path: Path) -> None:
    """Write an MP4 file anew with its index before its pictures, as files for streaming have it; then a part plays."""
    with av.open(path) as old, av.open(path.with_suffix(".first.mp4"), "w", options={"movflags": "+faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    path.with_suffix(".first.mp4").replace(path)
