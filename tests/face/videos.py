"""Small videos, made of faces that the tiny network knows: for the tests of video."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tests.face.tiny_network import band

ROTATED = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""Degrees clockwise -> the first numbers of a track's matrix (ISO/IEC 14496-12, 8.3.2)."""


def scene(emotion: str | None, x: int = 48, width: int = 192, height: int = 96) -> NDArray[np.uint8]:
    """Black, with a face of 48 pixels at ``x``, or none: ``(H, W)``."""
    picture = np.zeros((height, width), np.uint8)
    if emotion is not None:
        picture[24:72, x : x + 48] = band(emotion)
    return picture


def write_video(path: Path, pictures: Sequence[NDArray[np.uint8]], times: Sequence[float] | None = None) -> Path:
    """Grey pictures as a video, in an MP4, MKV or MOV file at 25 frames per second, or at ``times`` in seconds."""
    height, width = pictures[0].shape
    options = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1, cv2.VIDEOWRITER_PROP_KEY_INTERVAL, 1]
    code = cv2.VideoWriter.fourcc(*"MJPG")
    rate = 25.0 if times is None else 1000.0
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, (width, height), options)
    assert writer.isOpened()
    for number, picture in enumerate(pictures):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, number if times is None else round(1000 * times[number]))
        writer.write(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].reshape(1, -1))
    writer.release()
    return path


def turn(path: Path, degrees: int) -> None:
    """Note in an MP4 file that its pictures are to be turned clockwise before they are shown."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), ROTATED[degrees], strict=True):
        content[matrix + place : matrix + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(content)


def index_first(path: Path) -> None:
    """Move an MP4 file's index before its pictures, as files for streaming have it; then a part can be played."""
    content = path.read_bytes()
    media, index = content.index(b"mdat") - 4, content.index(b"moov") - 4
    assert media < index
    moov = bytearray(content[index:])
    start = moov.index(b"stco") + 8
    for number in range(int.from_bytes(moov[start : start + 4], "big")):
        place = start + 4 + 4 * number
        moved = int.from_bytes(moov[place : place + 4], "big") + len(moov)
        moov[place : place + 4] = moved.to_bytes(4, "big")
    path.write_bytes(content[:media] + moov + content[media:index])
