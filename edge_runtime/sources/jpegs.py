"""Split a stream of concatenated JPEG files, as written by ``ffmpeg -f mjpeg`` and ``rpicam-vid --codec mjpeg``."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAX_GAP_BYTES = 1 << 16
_MAX_JPEG_BYTES = 64 << 20
# A file begins with SOI, directly followed by the next marker.
_START = b"\xff\xd8\xff"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP_MARKERS = range(0xE0, 0xF0)
# Markers without a length: TEM and the restart markers.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
# In entropy-coded data, 0xFF is followed by a stuffed 0, by a restart marker, or by the marker that ends the data.
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
# Bytes allowed between files: padding, and headers of a multipart stream ("--boundary", "Content-Type: image/jpeg").
_HARMLESS = re.compile(rb"[\x00\xff\r\n]*(--.*)?", re.DOTALL)


class JpegSplitter:
    """Splitter of a byte stream into JPEG files by their markers, whatever the sizes of the pieces that arrive.

    Segments are skipped by their length, so that thumbnails inside them are not mistaken for files. Only after a start
    of scan is the next marker searched for.

    Attributes:
        garbage: Number of times that bytes outside whole files were skipped.

    Reference: ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    """

    def __init__(self) -> None:
        self.garbage = 0
        self._data = bytearray()
        self._position = 0  # the file at the start of the data is parsed up to here; 0 until its start is found
        self._next_from = 0  # earliest start of the next file if the current one turns out to be damaged
        self._in_scan = False
        self._in_garbage = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Add the next bytes and yield the files that they complete."""
        self._data += data
        while self._find_start():
            end = self._find_end()
            if end is None and len(self._data) <= _MAX_JPEG_BYTES:
                return
            if end is None or end < 0:
                self.garbage += 1
                self._in_garbage = True
                self._drop(self._next_from)
            else:
                yield bytes(self._data[:end])
                self._drop(end)

    def finish(self) -> int:
        """Return the number of bytes of an unfinished file at the end."""
        if not self._position:
            self._count_gap(len(self._data))
            return 0
        return len(self._data)

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._position, self._in_scan = 0, False

    def _find_start(self) -> bool:
        """Move to the start of the next file; return whether one was found."""
        if self._position:
            return True
        start = self._data.find(_START)
        if start < 0:
            if len(self._data) > _MAX_GAP_BYTES:
                self._count_gap(len(self._data))
                self._in_garbage = True
                self._drop(len(self._data) - len(_START) + 1)
            return False
        self._count_gap(start)
        self._in_garbage = False
        self._drop(start)
        self._position = self._next_from = 2
        return True

    def _count_gap(self, length: int) -> None:
        if not self._in_garbage and not _HARMLESS.fullmatch(self._data, 0, length):
            self.garbage += 1

    def _find_end(self) -> int | None:
        """Return the offset of the end of the file, None if it has not arrived, or -1 if the file is damaged."""
        data = self._data
        while True:
            if self._in_scan:
                found = _END_OF_SCAN.search(data, self._position)
                if found is None:
                    self._position = max(self._position, len(data) - 1)
                    return None
                self._position, self._in_scan = found.end() - 2, False
            at = self._position
            if len(data) < at + 2:
                return None
            marker = data[at + 1]
            if data[at] != 0xFF or marker in (0, _SOI):
                return -1
            if marker == _EOI:
                return at + 2
            if marker == 0xFF:  # a fill byte
                self._position = at + 1
            elif marker in _BARE_MARKERS:
                self._position = at + 2
            else:
                end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
                if len(data) < max(end, at + 4):
                    return None
                if end < at + 4:
                    return -1
                # The length of a truncated table reaches into the next file, which is therefore searched for from here.
                # An APP segment is skipped, because it may contain a thumbnail.
                self._next_from = end if marker in _APP_MARKERS else at
                self._position, self._in_scan = end, marker == _SOS
