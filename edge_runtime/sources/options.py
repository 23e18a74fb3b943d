"""Define the options of sources."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields

from edge_runtime.errors import UsageError

_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time limits and retries of live and network sources, in seconds.

    Attributes:
        open_s: Longest time to open a camera or stream.
        read_s: Time without a frame, beyond two frame periods, after which an open source counts as stalled.
        retry_first_s: Wait between losing a source and opening it again. The wait doubles with each attempt until the
            source delivers a frame.
        retry_limit_s: Longest wait between two attempts.
        retry_jitter: Largest share by which each wait is randomly shortened, so that many devices do not reconnect at
            once.
        give_up_s: Time without a frame after which the source is given up; ``math.inf`` for a service.
        retry_at_start: Also wait for a source that is missing at the start, instead of raising an error at once.
        frozen_s: Time with the same picture after which frames are flagged "frozen".

    Example:
        Wait for ever for a camera that is unplugged or not connected yet.

        >>> import math
        >>> from edge_runtime import Patience, SourceOptions, open_source
        >>> patience = Patience(give_up_s=math.inf, retry_at_start=True)
        >>> open_source(0, SourceOptions(patience=patience)).name
        'camera 0'
    """

    open_s: float = 5.0
    read_s: float = 5.0
    retry_first_s: float = 1.0
    retry_limit_s: float = 30.0
    retry_jitter: float = 0.2
    give_up_s: float = 60.0
    retry_at_start: bool = False
    frozen_s: float = 10.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_s") and not value > 0:
                raise UsageError(f"patience.{item.name} — found {value} — expected seconds above 0")
        if not 0 <= self.retry_jitter < 1:
            raise UsageError(f"patience.retry_jitter — found {self.retry_jitter} — expected a share from 0 to below 1")

    def retry_wait_s(self, failures: int) -> float:
        """Return the seconds to wait after this many failures since the latest frame, counted from 0."""
        wait_s = min(self.retry_limit_s, self.retry_first_s * 2.0 ** min(failures, _MAX_DOUBLINGS))
        return wait_s * (1 - self.retry_jitter * random.random())


_STDIN_ONLY = {
    "elsewhere": "raw size and live — are for frames on standard input — leave them out, or read from -",
}
_CAMERA_ONLY = {
    "elsewhere": "camera size — is for a camera, and the source is none — leave it out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of all kinds of sources; a source refuses options that apply only to other kinds.

    Attributes:
        patience: Time limits and retries of live and network sources.
        raw_size: (height, width) in pixels of raw BGR frames on standard input; None: JPEGs.
        live: Take the newest frame of standard input instead of every frame.
        camera_size: (height, width) in pixels to request from a camera; None: the camera's own size.
        max_pixels: Largest number of pixels of an image file; None: 64 megapixels.

    Example:
        >>> from edge_runtime import SourceOptions, open_source
        >>> camera = open_source(0, SourceOptions(camera_size=(720, 1280)))
        >>> camera.kind
        'live'
    """

    patience: Patience = field(default_factory=Patience)
    # "elsewhere" is the message of the error if the field is set for another kind of source.
    raw_size: tuple[int, int] | None = field(default=None, metadata=_STDIN_ONLY)
    live: bool = field(default=False, metadata=_STDIN_ONLY)
    camera_size: tuple[int, int] | None = field(default=None, metadata=_CAMERA_ONLY)
    max_pixels: int | None = None

    def refuse_all_but(self, *names: str) -> None:
        """Refuse options that apply only to other kinds of sources.

        Args:
            names: Fields that apply to this kind of source, of those that do not apply to all.

        Raises:
            UsageError: Another one of these fields is set.
        """
        for item in fields(self):
            refusal = item.metadata.get("elsewhere")
            if refusal and item.name not in names and getattr(self, item.name) != item.default:
                raise UsageError(refusal)
