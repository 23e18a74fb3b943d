"""What can be asked of a source besides its name."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields

from edge_runtime.errors import UsageError

_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a source may be silent or away, and how often it is tried again. All times in seconds.

    Attributes:
        open_s: For opening a camera or stream.
        read_s: Without a frame, beyond two periods of its frames, before an open source counts as stalled.
        retry_first_s: Between losing a source and opening it again; each further attempt waits twice as long, until the
            source has brought a frame.
        retry_limit_s: The longest of these waits.
        retry_jitter: Each wait is shorter by up to this share, so that many devices do not come back at once.
        give_up_s: Without a frame before the source is given up; ``math.inf`` for a service.
        retry_at_start: Also wait for a source that is not there at the start, which otherwise is an error at once.
        frozen_s: With the same picture before frames are flagged "frozen".

    Example:
        A camera that is unplugged, or not there yet, is waited for.

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
        """Return how long to wait after this many failures since the latest frame, from 0."""
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
    """Options of every kind of source; a source refuses those that only another kind can follow.

    Attributes:
        patience: With live sources and the network.
        raw_size: (height, width) of raw BGR frames on standard input, which otherwise are JPEGs.
        live: Of standard input take the newest frame, and not every one.
        camera_size: (height, width) to ask a camera for.
        max_pixels: How large an image file may be; None: 64 megapixels.

    Example:
        >>> from edge_runtime import SourceOptions, open_source
        >>> camera = open_source(0, SourceOptions(camera_size=(720, 1280)))
        >>> camera.kind
        'live'
    """

    patience: Patience = field(default_factory=Patience)
    # A field's "elsewhere" is what to say where it is set for a source that cannot follow it.
    raw_size: tuple[int, int] | None = field(default=None, metadata=_STDIN_ONLY)
    live: bool = field(default=False, metadata=_STDIN_ONLY)
    camera_size: tuple[int, int] | None = field(default=None, metadata=_CAMERA_ONLY)
    max_pixels: int | None = None

    def refuse_all_but(self, *names: str) -> None:
        """Refuse options of other kinds of sources.

        Args:
            names: Fields that this kind of source follows, of those that not every kind does.

        Raises:
            UsageError: Another one is set.
        """
        for item in fields(self):
            refusal = item.metadata.get("elsewhere")
            if refusal and item.name not in names and getattr(self, item.name) != item.default:
                raise UsageError(refusal)
