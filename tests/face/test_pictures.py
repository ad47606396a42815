import base64
import contextlib
import errno
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFile, features

from mien.errors import MediaError, MienError, MissingPathError
from mien.face.images import decode_image, has_pages, read_image, read_pages

ORIENTATION = 274


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_read_and_decode_agree(tmp_path: Path) -> None:
    content = encode(noise(20, 30, 3))
    (tmp_path / "a.txt").write_bytes(content)  # the name does not count
    pixels = read_image(tmp_path / "a.txt")
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == noise(20, 30, 3)).all()
    assert (read_image(str(tmp_path / "a.txt")) == decode_image(content, "a")).all()
    pixels[:] = 0  # the caller owns it


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM", "TIFF"])
def test_grey_stays_exact(kind: str) -> None:
    grey = noise(48, 48)
    assert (decode_image(encode(grey, kind), kind) == grey[..., None]).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "JPEG2000", "AVIF"])
def test_other_kinds(kind: str) -> None:
    names = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif", "JPEG": "jpg"}
    if not features.check(names[kind]):
        pytest.skip(f"this Pillow has no {kind}")
    ramp = np.tile(np.arange(0, 192, 4, dtype=np.uint8), (48, 1))
    assert np.abs(decode_image(encode(ramp, kind), kind) - ramp[..., None].astype(int)).max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    upright = np.zeros((24, 40), np.uint8)
    upright[:8, :16] = 255  # bright at the top left
    undo = {1: [], 2: [2], 3: [2, 4], 4: [4], 5: [5], 6: [5, 4], 7: [2, 5, 2], 8: [5, 2]}[orientation]
    stored = upright
    for step in undo:
        stored = {2: stored[:, ::-1], 4: stored[::-1], 5: stored.T}[step]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = decode_image(encode(np.ascontiguousarray(stored), kind, exif=exif.tobytes()), kind)
    assert found.shape == (24, 40, 3)
    assert np.abs(found[..., 0].astype(int) - upright).mean() < 8


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff" * 50])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_matter(kind: str, exif: bytes) -> None:
    assert decode_image(encode(noise(20, 30, 3), kind, exif=exif), kind).shape == (20, 30, 3)


def test_sixteen_bits_are_rounded_to_eight() -> None:
    grey = np.arange(0, 65536, 17, dtype=np.uint16).reshape(-1, 241)
    for kind in ("PNG", "TIFF", "PPM"):
        found = decode_image(encode(grey, kind), kind)
        assert (found == np.round(grey / 257)[..., None]).all(), kind
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert (decode_image(encode(eight * 257), "x") == eight[..., None]).all()


def test_more_than_sixteen_bits_are_refused() -> None:
    with pytest.raises(MediaError, match=r"at most 16 bits.*100000"):
        decode_image(encode(np.full((4, 4), 100_000, np.int32), "TIFF"), "deep.tif")
    with pytest.raises(MediaError, match=r"floating-point"):
        decode_image(encode(np.full((4, 4), 0.5, np.float32), "TIFF"), "float.tif")


def test_cmyk() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow ink
    for kind in ("JPEG", "TIFF"):
        found = decode_image(encode(red, kind), kind)
        assert np.abs(found.reshape(-1, 3).mean(axis=0) - [255, 0, 0]).max() < 8


def test_palette_and_one_bit() -> None:
    image = Image.frombytes("P", (4, 1), bytes([0, 1, 2, 1]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert decode_image(encode(image), "x")[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 255, 0]]
    bits = Image.frombytes("1", (8, 1), b"\xaa")
    assert decode_image(encode(bits), "x")[0, :, 0].tolist() == [255, 0] * 4


def test_transparent_parts_lie_on_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[0, 0, 3], pixels[0, 1, 3] = 255, 128
    found = decode_image(encode(pixels), "x")
    assert found[0, 0].tolist() == [200, 0, 0]
    assert np.abs(found[0, 1].astype(int) - [227, 127, 127]).max() <= 1
    assert (found[1] == 255).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_grey_stays_exact(mode: str) -> None:
    grey = noise(48, 48)
    image = Image.fromarray(grey).convert(mode)
    assert (decode_image(encode(image), "x") == grey[..., None]).all()


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_transparent_palette(transparency: int | bytes) -> None:
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = decode_image(encode(image, transparency=transparency), "x")
    assert found[0, :2].tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_animations(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    found = decode_image(encode(frames[0], kind, save_all=True, append_images=frames[1:]), kind)
    assert np.abs(found[10, 10].astype(int) - [255, 0, 0]).max() < 8


@pytest.mark.parametrize("size", [(10_001, 10_000), (12_000, 12_000), (30_000, 30_000), (2**31 - 1, 1)])
def test_large_pictures_are_refused_before_decoding(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(MediaError, match=r"bomb\.png: expected at most 100,000,000 pixels.*shrink it"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF"])
def test_one_pixel_is_a_picture(kind: str) -> None:
    assert decode_image(encode(np.full((1, 1, 3), 128, np.uint8), kind), "x").shape == (1, 1, 3)


def tiled_tiff(side: int) -> bytes:
    """An 8x8 picture in a single tile of this side, all zeros, compressed."""
    packer = zlib.compressobj(9)
    tile = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    values = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: len(tile)}
    values[324] = 8 + 2 + 12 * len(values) + 4  # the tile follows this directory
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4) + tile


def test_a_small_picture_in_a_huge_tile_is_refused() -> None:
    assert decode_image(tiled_tiff(16), "x").shape == (8, 8, 3)
    with pytest.raises(MediaError, match="x, a tile: expected at most 100,000,000 pixels, got 10016 x 10016"):
        decode_image(tiled_tiff(10_016), "x")


def test_a_jpeg_of_many_scans_is_refused() -> None:
    content = encode(np.full((64, 64), 100, np.uint8), "JPEG", progressive=True, exif=b"Exif\0\0" + b"\xff\xda" * 200)
    scan = content[content.rindex(b"\xff\xda") : -2]  # 10 of these take a large picture a second, in 140 bytes
    bomb = content[:-2] + 100 * scan + content[-2:]
    with pytest.raises(MediaError, match="at most 100 scans, got 106"):
        decode_image(bomb, "x")
    few = content[:-2] + 10 * scan + content[-2:]
    assert decode_image(few + 200 * scan, "x").shape == (64, 64, 3)  # what follows the picture does not count


def test_compressed_text_does_not_fill_the_memory() -> None:
    text = zlib.compress(bytes(50_000_000), 9)
    chunk = b"zTXt" + b"Comment\0\0" + text
    whole = encode(noise(8, 8))
    bomb = whole[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]
    with pytest.raises(MediaError, match="damaged"):
        decode_image(bomb, "x")


def test_just_under_the_limit_is_tried() -> None:
    # Above 89 million pixels Pillow warns; the pixels are missing here, so that nothing large is decoded to the end.
    with pytest.raises(MediaError, match="damaged"):
        decode_image(png_header(9_999, 10_000), "x")


def test_limit_does_not_depend_on_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(MediaError, match="got 30000 x 30000"):
        decode_image(png_header(30_000, 30_000), "x")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(MediaError, match="shrink"):
        decode_image(encode(noise(20, 20)), "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a picture, got an empty file; save it again or leave it out"),
        (b"hello, world", "expected a picture .PNG, JPEG.*got something else"),
        (b"\x89PNG\r\n\x1a\n", "got"),
        (b"\xff\xd8\xff", "got"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "got something else"),
        (os.urandom(4096), "got something else"),
    ],
)
def test_no_picture(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        read_image(tmp_path / "a.png")
    assert str(caught.value).startswith(str(tmp_path / "a.png"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated_pictures(kind: str) -> None:
    whole = encode(noise(64, 64, 3), kind)
    for share in (0.02, 0.3, 0.6, 0.95):
        with pytest.raises(MediaError, match="x: expected"):
            decode_image(whole[: int(len(whole) * share)], "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_noise_in_pictures_ends_in_a_picture_or_our_error(kind: str) -> None:
    whole = encode(noise(32, 32, 3), kind)
    random = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(whole)
        for position in random.integers(0, min(len(content), 400), 4):
            content[position] = random.integers(256)
        with contextlib.suppress(MediaError):
            assert decode_image(bytes(content), "x").dtype == np.uint8


def test_missing_and_odd_paths(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"none\.png: expected a picture.*check the path"):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    for path in (tmp_path, tmp_path / "a.png", f"{tmp_path}/{300 * 'a'}.png", f"{tmp_path}/a\0.png"):
        with pytest.raises(MediaError, match=r"check its kind and permissions|as bytes to mien\.face"):
            read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(MediaError, match="got a folder, pipe or device"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise OSError(number, os.strerror(number), str(path))

    (tmp_path / "a.png").write_bytes(encode(noise(4, 4)))
    monkeypatch.setattr("builtins.open", refuse)  # root, who runs some tests, may read everything
    with pytest.raises(MediaError, match=rf"a\.png: .*{os.strerror(number)}; check its kind and permissions"):
        read_image(tmp_path / "a.png")


def test_nothing_global_changes() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:])

    def decode() -> None:
        for _ in range(50):
            decode_image(content, "x")

    content = encode(noise(20, 20, 3), exif=b"Exif\0\0junk")
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:]) == before


def test_a_picture_as_text_is_no_path() -> None:
    text = base64.b64encode(bytes(range(256)) * 100).decode()
    for given in (text, f"data:image/jpeg;base64,{text}", text[:200], f"data:,{text[:100]}"):
        with pytest.raises(MienError) as told:
            read_image(given)
        assert len(str(told.value)) < 500
        assert "permissions" not in str(told.value)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_turned_once(tmp_path: Path, orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = 200
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = orientation
    # HEIF turns by a property of its own, which EXIF only repeats (ISO/IEC 23008-12); FFmpeg shows them without.
    heif.from_pillow(image).save(tmp_path / "a.heic", quality=-1, exif=exif.tobytes())
    with av.open(str(tmp_path / "a.heic")) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="gray")
    found = read_image(tmp_path / "a.heic")[..., 0].astype(int)
    expected = coded if orientation == 1 else np.rot90(coded, -1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 20
    content = (tmp_path / "a.heic").read_bytes()
    for damaged in (content[:40], content[: len(content) // 2]):
        with pytest.raises(MediaError, match=r"a\.heic: expected a "):
            decode_image(damaged, "a.heic")
    assert "HEIF" not in Image.OPEN  # Pillow's other users get what they had


def test_reduced_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    whole, small = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (16, 16), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        assert image.tag_v2.get(254) == 1
    assert not has_pages(tmp_path / "a.tif")
    assert [page.shape for page in read_pages(tmp_path / "a.tif", "a.tif")] == [(64, 64, 3)]
