"""Find out what an http address holds, and read a picture from it."""

from __future__ import annotations

import base64
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from edge_runtime.errors import InputError, SourceError
from edge_runtime.headers import pictures_in
from edge_runtime.image import MAX_PIXELS, decode
from edge_runtime.sources.capture import is_address, is_remote_video, redacted
from edge_runtime.sources.frame import Frame, Source
from edge_runtime.sources.images import is_picture
from edge_runtime.sources.live import LiveSource
from edge_runtime.sources.options import SourceOptions
from edge_runtime.sources.video import RemoteVideoSource

_MOST_BYTES = 1 << 28
_KNOWN_BYTES = 1 << 26
"""Bytes that are read to tell one JPEG from a recording of many, or a GIF from an animation."""
_FILES = frozenset({"video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "video/x-msvideo"})
"""Types of videos whose end belongs to them, so that they are files even if the server does not tell their length."""
_ASK_S = 5.0
"""Longest time to ask an address what it holds; afterwards it is opened as a stream."""
_PLAYLISTS, _PLAYLIST_SUFFIXES = ("mpegurl", "dash+xml"), (".m3u8", ".mpd")


def recognise(
    source: int | str | Path, options: SourceOptions
) -> RemoteImageSource | RemoteVideoSource | LiveSource | None:
    """Return the source for an http address that answers; None for anything else.

    The address is asked what it holds, unless it has the name of a video, or a service may wait for it.

    Raises:
        UsageError: An option of another kind of source is set.
    """
    if not is_address(source) or source.partition("://")[0].lower() not in ("http", "https"):
        return None
    source, patience = _quoted(source), options.patience
    content = "video" if is_remote_video(source) else None
    if content is None and not patience.retry_at_start:
        content = content_of(source, min(patience.open_s, _ASK_S))
    if content is None:
        return None
    options.refuse_all_but()
    if content == "video":
        return RemoteVideoSource(source, patience)
    if content == "image":
        return RemoteImageSource(source, patience.open_s, options.max_pixels or MAX_PIXELS)
    # A camera that serves one client at a time may need a moment to notice that the question is over.
    return LiveSource(redacted(source), source, replace(patience, retry_at_start=True))


def content_of(url: str, timeout_s: float) -> Literal["stream", "video", "image"] | None:
    """Tell by the answer what an http address holds: a file has a length, a stream has none.

    A picture may be served as plain bytes, and is recognised by them.

    Returns:
        The kind; None if the address does not answer, because opening it says what is wrong.
    """
    try:
        with _opened(url, timeout_s) as answer:
            kind = answer.headers.get_content_type()
            # Servers that do not know playlists call them text or bytes.
            playlist = urlsplit(url).path.lower().endswith(_PLAYLIST_SUFFIXES) or any(n in kind for n in _PLAYLISTS)
            finite = answer.headers.get("Content-Length", "0").strip() not in ("", "0")
            if kind.startswith("image/"):  # one picture, also if its length is not told
                return "image"
            if kind.startswith("multipart/") or playlist or not (finite or kind in _FILES):
                return "stream"
            return "image" if not kind.startswith("video/") and is_picture(answer, _KNOWN_BYTES) else "video"
    except (OSError, ValueError, HTTPException):
        return None


class RemoteImageSource(Source):
    """Source of the one picture at an http address."""

    def __init__(self, url: str, timeout_s: float, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(redacted(url), "images")
        self._url = url
        self._timeout_s = timeout_s
        self._max_pixels = max_pixels
        self.total = 1

    def load(self, index: int) -> Frame | None:
        """Fetch and decode the picture; see ``Source``."""
        started = time.monotonic()
        try:
            with _opened(self._url, self._timeout_s) as answer:
                data = answer.read(_MOST_BYTES)
            image = decode(data, self.name, max_pixels=self._max_pixels)
        except InputError as error:
            self._failed(str(error))
            return None
        except (OSError, ValueError, HTTPException):
            raise SourceError(
                f"{self.name} — cannot be fetched — check the address, the network and the password"
            ) from None
        now = time.monotonic()
        if (pictures := pictures_in(data)) > 1:
            self._note(f"{self.name} — has {pictures} pages or frames, of which the first was read")
        stem = PurePosixPath(unquote(urlsplit(self._url).path)).stem
        name = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in stem) or "picture"
        frame = Frame(
            index=index,
            name=name,
            source=self.name,
            image_bgr=image,
            captured_at=now,
            decode_ms=(now - started) * 1e3,
        )
        return self._taken(frame)

    def raise_problems(self) -> None:
        """Raise an error if the picture could not be decoded; see ``Source``."""
        if self.failed:
            raise InputError(self.problems[0])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the picture.

        Raises:
            InputError: It cannot be decoded.
            SourceError: It cannot be fetched.
        """
        if not self.stopped.is_set() and (frame := self.load(0)) is not None:
            yield frame
        self.raise_problems()


def _quoted(url: str) -> str:
    """Return an address as it is sent: spaces and letters beyond ASCII in path and query as ``%20``."""
    try:
        parts = urlsplit(url)
    except ValueError:  # opening it says what is wrong
        return url
    path, query = (quote(text, safe="/%:@!$&'()*+,;=~?") for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query))


def _opened(url: str, timeout_s: float) -> HTTPResponse:
    """Open an address; user and password in it are sent as basic authentication."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
    return answer
