"""The sound of a video, written into an annotated one beside its pictures."""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import av
import av.error
from av.container import InputContainer, OutputContainer

from mien.face.video.reading import VideoReader

RATE = 48_000  # of sound that is written anew, in samples per second; Opus takes no other above 24,000


class Sound:
    """The first sound of a video, as far as the pictures have come: copied where the new file can hold it."""

    def __init__(
        self, source: InputContainer, target: OutputContainer, kinds: tuple[str, ...], encoder: str, zero: float
    ) -> None:
        """``kinds`` of sound are copied, another is written anew by ``encoder``; ``zero`` on the old clock is now 0."""
        self._source, self._target, self._zero = source, target, zero
        self._old: Any = source.streams.audio[0]
        context = self._old.codec_context
        self._copies = context.name in kinds and (context.name == "mp3" or bool(context.extradata))
        if self._copies:
            self._new: Any = target.add_stream_from_template(self._old)
        else:
            self._new = target.add_stream(encoder, RATE, layout="stereo" if context.channels > 1 else "mono")
        self._pieces = self._read()
        self._next = next(self._pieces, None)

    def write_until(self, time: float) -> None:
        """Write what is heard up to a time in seconds."""
        while self._next is not None and self._next[0] < time:
            piece = self._next[1]
            if self._copies:
                piece.stream = self._new
                self._target.mux(piece)
            else:
                self._target.mux(self._new.encode(piece))
            self._next = next(self._pieces, None)

    def finish(self) -> None:
        """Write what the encoder holds back."""
        if not self._copies:
            self._target.mux(self._new.encode(None))

    def close(self) -> None:
        """End the reading."""
        self._pieces.close()

    def _read(self) -> Generator[tuple[float, Any], None, None]:
        """When each packet, or frame, is heard, and itself, from time 0 on; damaged ones are left out."""
        try:
            for packet in self._source.demux(self._old):
                for piece in self._pieces_of(packet):
                    if piece.pts is None or not piece.time_base:
                        continue
                    time = float(piece.pts * piece.time_base) - self._zero
                    if time + float((piece.duration or 0) * piece.time_base) <= 0 and time < 0:
                        continue
                    shift = round(self._zero / piece.time_base)
                    piece.pts, piece.dts = piece.pts - shift, None if piece.dts is None else piece.dts - shift
                    yield time, piece
        except av.error.FFmpegError:  # the sound ends where it is cut off
            return

    def _pieces_of(self, packet: Any) -> list[Any]:
        if self._copies:
            return [packet] if packet.size else []
        try:
            return list(self._old.decode(packet if packet.size else None))
        except av.error.FFmpegError:
            return []


@contextlib.contextmanager
def sound_of(
    original: VideoReader, target: OutputContainer, kinds: tuple[str, ...], encoder: str, start: float
) -> Iterator[Sound | None]:
    """The sound of ``original`` from ``start`` in its seconds; ``None`` where it has none that can be read."""
    if original.path is None:
        yield None
        return
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(original.path.open("rb"))
        sound = None
        with contextlib.suppress(av.error.FFmpegError):
            source = opened.enter_context(av.open(file, "r", options={"protocol_whitelist": "none"}))
            if source.streams.audio and source.streams.audio[0].codec_context is not None:
                sound = Sound(source, target, kinds, encoder, original.origin + start)
                opened.callback(sound.close)
        yield sound
