"""A container -> its decoded frames in the order in which they are shown, with times and damage, by FFmpeg (PyAV)."""

from __future__ import annotations  # PyAV's Packet takes its parameter in the stubs alone

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame as AvFrame
from av.video.stream import VideoStream

from mien import errors
from mien.face.images import MAX_PIXELS
from mien.face.video.damage import Damage, Listening, complaints

NO_VIDEO = {
    "tty": "a text", "image2": "a picture", "image2pipe": "a picture", "hls": "a playlist", "dash": "a playlist",
    "concat": "a playlist", "ico": "a picture",
}  # fmt: skip
"""FFmpeg's reader -> what it found; these give pictures all the same, a text's among them, or open other files."""

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Kinds of box with which an MP4 or QuickTime file begins (ISO/IEC 14496-12, 4.2); old ones have no ``ftyp``."""

RAW_JPEG = (".mjpeg", ".mjpg")
"""Endings of JPEG pictures in a row that are a video; others may be a photograph with a second one inside."""

BEGINS_ANYWHERE = ("mpegts", "mpeg", "h264", "hevc", "mpegvideo", "m4v")
"""Formats that are cut out of broadcasts: what cannot be shown before their first key frame is no damage."""

OWN_LENGTH, COMMON_LENGTH = ("mov", "avi"), ("matroska", "flv", "asf", "mxf", "nut", "ogg")
"""Formats that state the length of each stream, and of the longest one; elsewhere FFmpeg guesses it."""

MISSING_SECONDS, MISSING_FRACTION = 1.0, 0.02
"""By how much all streams may end before the stated length."""

NO_ZEROS, ZEROS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4"), 32
"""Decoders of packets without stuffing, in which so many zeros in a row are a hole; their decoders do not see it."""

CHUNK_HEAD = 8  # bytes of an AVI chunk's name and length, where its index points

READING = (av.error.FFmpegError, OSError, TypeError, ValueError)
"""What reading raises; errors of the file itself pass through PyAV."""

FAILURES = 64  # in a row, after which a container is given up

BUFFER = 2**18
"""Bytes that are read at a time."""

# Where the program has set up no logging, Python would print what PyAV passes on.
logging.getLogger("libav").addHandler(logging.NullHandler())


class Decoded(NamedTuple):
    """A frame as it was decoded, and its place in the file."""

    frame: AvFrame
    time: float | None  # of its presentation, in seconds on the file's own clock; None where it states none
    damaged: bool
    lost: int  # frames that could not be decoded, just before this one


@dataclass(eq=False)
class _Sent:
    """A packet on its way through the decoder, which hands it on with the frame."""

    number: int
    time: float | None


class Decoder:
    """One picture stream of an open container, decoded in the caller's thread, once.

    Attributes:
        damage: what was found damaged so far.
        holes: times at which reading went on after data that could not be followed.
        origin_of_sound: time of the first sound on the file's clock, in seconds; ``None`` where there is none.
        streams: number of picture streams.
        end: time at which the last packet of any stream ends.
    """

    def __init__(self, file: IO[bytes], name: str, stream: int | None) -> None:
        """Open a file that is open for reading; ``name`` stands in messages. Raises ``MediaError``."""
        self.damage, self.holes = Damage(), deque[float](maxlen=64)
        self.end = self._own_end = 0.0
        self._listening = Listening()
        self._listening.begin()
        try:
            self.container = _opened(file, name)
            self.stream, self.streams = _chosen(self.container, name, stream)
        except BaseException:
            self._listening.end()
            raise
        context = self.stream.codec_context
        # One thread, so that a complaint is known to belong to the packet that was sent; decoding overlaps with the
        # search for faces all the same.
        context.thread_count, context.copy_opaque = 1, True
        context.options = {"max_pixels": str(MAX_PIXELS)}
        sound = next(iter(self.container.streams.audio), None)
        self.origin_of_sound = _seconds(sound.start_time, sound) if sound is not None else None
        self._number, self._lost = 0, 0
        self._shown = self._hole = False
        self._last_dts: int | None = None
        self._slots = _Slots(self.stream) if _is(self.container, "avi") else None

    @property
    def seconds(self) -> float | None:
        """The length that the file states for its pictures, or where it does not, for all it holds."""
        if _is(self.container, "avi"):  # where the end is missing, FFmpeg guesses a duration; the head has slots
            return _seconds(max(self.stream.frames, self.stream.duration or 0), self.stream) or None
        if self.stream.duration and _is(self.container, *OWN_LENGTH):
            return _seconds(self.stream.duration, self.stream)
        stated = self.container.duration or 0
        return stated / av.time_base if stated > 0 else None

    def frames(self) -> Iterator[Decoded]:
        """The frames, in the order in which they are shown."""
        for packet in self._packets():
            yield from self._decoded(packet)
        yield from self._decoded(None)
        self._check_end()

    def close(self) -> None:
        """Let go of the container."""
        self.container.close()
        self._listening.end()

    def _packets(self) -> Iterator[Packet[Any]]:
        """The packets of the stream, each once it is known whether reading goes on soundly behind it."""
        held: Packet[Any] | None = None
        for packet, torn in self._followed():
            mine = packet is not None and packet.stream_index == self.stream.index
            if torn and held is not None:
                held.is_corrupt = True  # what was taken for its end may be that of another
            if held is not None and (mine or torn or packet is None):
                yield held
                held = None
            if torn:
                self.damage.spoil(self._number - 0.5)  # before the next packet, so that a key frame is whole
                self._hole = True
            if packet is None or not mine:
                continue
            time = _seconds(packet.pts if packet.pts is not None else packet.dts, packet)
            if self._hole and time is not None:
                self.holes.append(time)
                self._hole = False
            held = packet

    def _followed(self) -> Iterator[tuple[Packet[Any] | None, bool]]:
        """All packets of the container, and whether something before each could not be followed; ``None`` at the end.

        Packets without content are left out: they repeat a frame, or end a stream, and a decoder would take each for
        the end.
        """
        failures, torn, begun, packets = 0, False, False, self.container.demux()
        while failures < FAILURES:
            failed, packet = None, None
            with complaints() as said:
                try:
                    packet = next(packets, None)
                except READING as error:
                    packets, failed = self.container.demux(), str(getattr(error, "strerror", None) or error)
            torn = torn or (begun and bool(said)) or failed is not None
            if failed is not None:
                failures, self.damage.torn = failures + 1, f"it cannot be followed to its end ({failed})"
            elif packet is None or not packet.size:
                if torn and self.damage.torn is None and said:
                    self.damage.torn = f"it is cut off ({said[-1].rstrip('.')})"
                if packet is None:
                    break
            else:
                failures, begun, self.damage.torn = 0, True, None
                time = _seconds(packet.pts if packet.pts is not None else packet.dts, packet)
                if time is not None:
                    self.end = max(self.end, time + (_seconds(packet.duration, packet) or 0.0))
                    self._own_end = self.end if packet.stream_index == self.stream.index else self._own_end
                yield packet, torn
                torn = False
        yield None, torn

    def _decoded(self, packet: Packet[Any] | None) -> Iterator[Decoded]:
        sent = _Sent(self._number, self._time(packet))
        if packet is not None:
            packet.opaque = sent
            self._number += 1
        frames: list[AvFrame] = []
        with complaints() as said:
            try:
                frames = self.stream.decode(packet)
            except av.error.EOFError:  # a second end
                pass
            except av.error.FFmpegError as error:
                said.append(str(error))
                self._lose(sent)
        if (said or (packet is not None and self._is_spoilt(packet))) and (self._shown or not self._may_begin_later):
            self.damage.spoil(sent.number)
            if sent.time is not None:
                self.holes.append(sent.time)
        for frame in frames:
            yield self._shown_frame(frame, sent)

    def _is_spoilt(self, packet: Packet[Any]) -> bool:
        """The container says so, or the packet goes back in time, or holds what no encoder writes."""
        back = packet.dts is not None and self._last_dts is not None and packet.dts <= self._last_dts
        self._last_dts = packet.dts if packet.dts is not None else self._last_dts
        zeros = self.stream.codec_context.name in NO_ZEROS and bytes(ZEROS) in bytes(packet)
        return packet.is_corrupt or back or zeros

    @property
    def _may_begin_later(self) -> bool:
        return _is(self.container, *BEGINS_ANYWHERE)

    def _lose(self, sent: _Sent) -> None:
        """A packet gave no frame."""
        if self._shown or not self._may_begin_later:
            self._lost += 1
            self.damage.lost += 1
        if self._slots is not None:
            self._slots.drop(sent.time)

    def _time(self, packet: Packet[Any] | None) -> float | None:
        if packet is None:
            return None
        if self._slots is not None:
            return self._slots.push(packet)
        return _seconds(packet.pts if packet.pts is not None else packet.dts, packet)

    def _shown_frame(self, frame: AvFrame, sent: _Sent) -> Decoded:
        if not self._shown:
            self._shown = True
            # Before the first whole frame a decoder keeps back what it cannot show; after it that is damage to be told.
            self.stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        own = frame.opaque if isinstance(frame.opaque, _Sent) else sent
        if self._slots is not None:
            time = self._slots.pop()
        else:
            time = _seconds(frame.pts if frame.pts is not None else frame.dts, self.stream)
        damaged = self.damage.reaches(own.number, frame.key_frame, frame.is_corrupt)
        lost, self._lost = self._lost, 0
        return Decoded(frame, time, damaged, lost)

    def _check_end(self) -> None:
        """Sound that goes on is no damage: where the pictures state no length, every stream must end before it."""
        seconds = self.seconds
        if self.damage.torn or seconds is None or not _is(self.container, *OWN_LENGTH, *COMMON_LENGTH):
            return
        end = self.end - (self.container.start_time or 0) / av.time_base
        if _is(self.container, *OWN_LENGTH):
            end = self._own_end - (_seconds(self.stream.start_time, self.stream) or 0.0)
        if end < seconds * (1 - MISSING_FRACTION) - MISSING_SECONDS:
            self.damage.torn = f"it states {seconds:.2f} s, but ends at {end:.2f} s; it is cut off"


class _Slots:
    """Times of an AVI file, which knows the order of decoding alone: one slot a packet, by its index where it has one.

    The frames that are shown take the slots in their order. Where the two orders differ by d frames, the first d slots
    lie before the first frame. Without the index, packets behind a hole would move up.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream, self._waiting = stream, deque[float]()
        entries = [(each.pos + CHUNK_HEAD, each.timestamp) for each in stream.index_entries]
        self._index = np.array(sorted(entries), np.int64).reshape(-1, 2)  # place in the file, tick
        self._shift: float | None = None

    def push(self, packet: Packet[Any]) -> float | None:
        """The slot of a packet in seconds."""
        ticks = packet.dts
        if len(self._index) and packet.pos is not None:
            row = int(np.searchsorted(self._index[:, 0], packet.pos))
            if row < len(self._index) and self._index[row, 0] == packet.pos:
                ticks = int(self._index[row, 1])
        time = _seconds(ticks, packet)
        if time is not None:
            self._waiting.append(time)
        return time

    def drop(self, time: float | None) -> None:
        """Take back the slot of a packet that gave no frame."""
        if time is not None and time in self._waiting:
            self._waiting.remove(time)

    def pop(self) -> float | None:
        """The time of the next frame that is shown; ``None`` after the last slot."""
        if self._shift is None:
            first = self._waiting[0] if self._waiting else 0.0
            for _ in range(min(self._stream.codec_context.reorder_depth, len(self._waiting) - 1)):
                self._waiting.popleft()
            self._shift = self._waiting[0] - first if self._waiting else 0.0
        return self._waiting.popleft() - self._shift if self._waiting else None


def _is(container: InputContainer, *names: str) -> bool:
    """FFmpeg's reader of a container has one of these names."""
    return any(name in names for name in container.format.name.split(","))


def _seconds(ticks: int | None, clock: Any) -> float | None:
    """Seconds of a number of ticks of a stream's or packet's clock."""
    return None if ticks is None or not clock.time_base else float(ticks * clock.time_base)


def _opened(file: IO[bytes], name: str) -> InputContainer:
    """The container of an open file. It may open no other files, and no addresses."""
    options, reason = {"protocol_whitelist": "none"}, None
    with complaints() as said:
        try:
            container = av.open(file, "r", buffer_size=BUFFER, options=options, metadata_errors="replace")
            if _is(container, "jpeg_pipe") and name.lower().endswith(RAW_JPEG):
                container.close()
                file.seek(0)
                container = av.open(file, "r", "mjpeg", buffer_size=BUFFER, options=options)
        except READING as error:
            reason = error
    if reason is None:
        if said:
            # The beginning was read to find the streams. It is read again, so that its damage is known by its place.
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(container.start_time or 0)
        return container
    found = "something else; convert it to MP4 or WebM"
    if isinstance(reason, OSError) and not isinstance(reason, av.error.FFmpegError):
        found = f"one that cannot be read ({reason.strerror or reason}); check the disk, or copy it again"
    elif any("moov atom not found" in text for text in said) and _first_box(file) in FIRST_BOXES:
        found = "a file without its index, which stands at the end; copy it again"
    raise errors.MediaError(f"{name}: expected a whole video, got {found}") from reason


def _first_box(file: IO[bytes]) -> bytes:
    with contextlib.suppress(OSError, ValueError):  # a pipe cannot go back
        file.seek(0)
        return file.read(8)[4:]
    return b""


def _chosen(container: InputContainer, name: str, number: int | None) -> tuple[VideoStream, int]:
    """The picture stream to decode, and how many there are."""
    kind = next((kind for each, kind in NO_VIDEO.items() if _is(container, each)), None)
    if kind is None and container.format.name.endswith("_pipe"):
        kind = "a picture"
    if kind is not None:
        container.close()
        raise errors.MediaError(f"{name}: expected a video, got {kind}; pictures are read by mien predict")
    covers = av.stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & covers]
    if not streams:
        holds = "sound alone" if container.streams.audio else "no pictures"
        container.close()
        raise errors.MediaError(f"{name}: expected a video, got a file that holds {holds}; name a file with pictures")
    if number is not None and number >= len(streams):
        container.close()
        raise errors.CallError(
            f"{name}: expected a --stream from 0 to {len(streams) - 1}, got {number}; the file holds {len(streams)}"
        )
    best = container.streams.best("video")
    stream = streams[number] if number is not None else best if best in streams else streams[0]
    if stream.codec_context is None:
        container.close()
        raise errors.MediaError(f"{name}: expected a codec that FFmpeg decodes, got another; convert it to H.264")
    return stream, len(streams)
