"""What is shown of a frame: fields, shape, turn, brightness, depth and size, each against what was recorded."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image
from tests.face.videos import scene, write_video

from mien.face.video import VideoReader
from mien.face.video.pixels import WHITE, in_range


def shown(path: Path) -> list[NDArray[np.uint8]]:
    with VideoReader(path) as reader:
        frames = [frame.pixels for frame in reader.read()]
        reader.check_end()
    return frames


def coded(light: float, curve: int) -> int:
    """The 16-bit code of a grey of so many cd/m2 (ITU-R BT.2100; the screen for HLG has 1,000)."""
    if curve == ColorTrc.SMPTE2084:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = (light / 10000) ** m1
        return round(65535 * ((c1 + c2 * power) / (1 + c3 * power)) ** m2)
    scene_light = (light / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = (3 * scene_light) ** 0.5 if scene_light <= 1 / 12 else a * np.log(12 * scene_light - b) + c
    return round(65535 * code)


def srgb(light: float) -> float:
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("curve", [ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
def test_light_up_to_three_quarters_of_white_stays_what_it_is(curve: int) -> None:
    for light in (1.0, 20.0, 50.0, 100.0, 150.0):
        picture = np.full((2, 2, 3), coded(light, curve), np.uint16)
        assert in_range(picture, curve)[0, 0].tolist() == pytest.approx([srgb(light / WHITE)] * 3, abs=1.5)
    lights = [in_range(np.full((1, 1, 3), coded(light, curve), np.uint16), curve)[0, 0, 0] for light in (160, 203, 500)]
    assert srgb(0.75) < lights[0] < lights[1] < lights[2] <= 255
    red = np.array([[[coded(150, curve), coded(20, curve), coded(20, curve)]]], np.uint16)
    assert in_range(red, curve)[0, 0, 0] > 2 * in_range(red, curve)[0, 0, 1]


@pytest.mark.parametrize("curve", [ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
def test_a_bright_video_of_ten_bits_looks_as_an_ordinary_one(tmp_path: Path, curve: int) -> None:
    grey = np.full((64, 96, 3), round(coded(100, curve) / 257), np.uint8)
    colours = {
        "color_trc": curve,
        "color_primaries": ColorPrimaries.BT2020,
        "colorspace": Colorspace.BT2020,
        "color_range": ColorRange.MPEG,
    }
    path = write_video(tmp_path / "a.mkv", [grey] * 3, codec="libx265", pixels="yuv420p10le", colours=colours)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).color_trc == curve
    assert shown(path)[1][32, 48] == pytest.approx([srgb(100 / WHITE)] * 3, abs=4)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p10le", "yuv422p"])
def test_depth_and_colours_of_an_ordinary_video(tmp_path: Path, pixels: str) -> None:
    picture = np.full((64, 96, 3), (200, 40, 90), np.uint8)
    path = write_video(tmp_path / "a.mp4", [picture] * 2, codec="libx264", pixels=pixels)
    assert np.abs(shown(path)[0].astype(int) - picture).max() < 6


def test_fields_of_two_moments_leave_no_comb(tmp_path: Path) -> None:
    moments = [scene("happy", x=8 + 6 * number, width=192, height=96) for number in range(16)]
    woven = []
    for first, second in zip(moments[::2], moments[1::2], strict=True):
        picture = first.copy()
        picture[1::2] = second[1::2]
        woven.append(picture)
    path = write_video(tmp_path / "a.mp4", woven, codec="libx264", interlaced=True)
    frames = shown(path)
    assert len(frames) == 8
    for frame, first in list(zip(frames, moments[::2], strict=True))[1:-1]:
        # A comb changes from each line to the next and back.
        grey = frame[..., 0].astype(int)
        comb = np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean()
        plain = np.abs(2 * first[1:-1].astype(int) - first[:-2] - first[2:]).mean()
        assert comb < plain + 4
        assert np.abs(grey - first).mean() < 6  # it shows the first field's moment


def test_a_size_that_changes_on_the_way_changes_the_frames(tmp_path: Path) -> None:
    lying, standing = scene("happy", width=192, height=96), scene("happy", width=96, height=192)
    with (tmp_path / "call.mjpeg").open("wb") as stream:
        for picture in [lying] * 5 + [standing] * 5:
            Image.fromarray(picture).convert("RGB").save(stream, "JPEG", quality=95)
    frames = shown(tmp_path / "call.mjpeg")
    assert [frame.shape[:2] for frame in frames] == [(96, 192)] * 5 + [(192, 96)] * 5
    assert np.abs(frames[-1][..., 0].astype(int) - standing).mean() < 4


def test_the_containers_shape_of_pixels_goes_before_the_codecs(tmp_path: Path) -> None:
    picture = np.zeros((96, 192, 3), np.uint8)
    path = write_video(tmp_path / "a.mov", [picture] * 2, codec="libx264", aspect=Fraction(4, 3))
    assert shown(path)[0].shape[:2] == (96, 256)
    content = path.read_bytes()
    place = content.index(b"pasp") + 4
    path.write_bytes(content[:place] + (64).to_bytes(4, "big") + (45).to_bytes(4, "big") + content[place + 8 :])
    assert shown(path)[0].shape[:2] == (96, 273)
    path.write_bytes(content[:place] + (1).to_bytes(4, "big") + (99).to_bytes(4, "big") + content[place + 8 :])
    assert shown(path)[0].shape[:2] == (96, 192)  # nobody has such pixels


def test_the_main_stream_is_read_and_another_can_be_chosen(tmp_path: Path) -> None:
    dark, light = [np.zeros((64, 96), np.uint8)] * 3, [np.full((64, 96), 200, np.uint8)] * 3
    path = write_video(tmp_path / "a.mkv", dark, second=light)
    with VideoReader(path, stream=1) as reader:
        assert reader.streams == 2
        assert next(reader.read()).pixels.mean() > 180
    assert shown(path)[0].mean() < 20
