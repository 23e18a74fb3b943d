"""What a run is to do: everything that is decided before anything is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from edge_runtime.errors import UsageError
from edge_runtime.sinks.outputs import OutputOptions
from edge_runtime.sinks.records import Shapes
from edge_runtime.sources import Kind, SourceOptions

Edges = Literal["hard", "soft"]
TileSize: TypeAlias = tuple[int, int] | Literal["model"]
"""(height, width) in pixels of the picture, or the size of the model's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Describe a run from a source to its outputs; see ``execute``.

    Messages name the options of ``edge-unet run``, which are the fields of the same names.

    Attributes:
        package: Model package, or a bare .onnx file.
        source: What ``open_source`` takes.
        source_options: What is asked of the source.
        max_frames: Stop after this many frames.
        variant: Variant of the model; None: the device profile's, or the fastest in the package.
        threads: Threads of one inference; None: the device profile's, or all usable cores, shared by the workers.
        workers: Images at a time, of a folder; None: as many as there are usable cores.
        tile: Cut large pictures into overlapping tiles of this size rather than shrink them. Pictures of up to 400
            megapixels are taken then, unless ``source_options`` says otherwise.
        smooth: Calm the flicker of a video or live source.
        edges: "soft" lets edges follow the picture.
        effect: What ``parse_effect`` takes; None: an overlay.
        opacity: Opacity of the overlay, 0–1.
        legend: Name the classes on the overlay.
        output: Where masks and pictures go.
        json: File that gets a JSON line per frame and the summary; "-" for standard output.
        shapes: Add outlines or COCO masks to the JSON lines.
        service: Never give up: retry the source for ever, count what cannot be written and go on, write the video in
            pieces, and raise ``WedgedError`` when native code hangs.
        status: File that is kept up to date with a JSON status; "-" for lines on stderr.
        status_interval_s: Time between two of them.

    Example:
        >>> from edge_runtime import RunConfig, execute
        >>> config = RunConfig(package=package, source=folder, edges="soft", json=str(tmp_path / "masks.jsonl"))
        >>> summary = execute(config)
        >>> len((tmp_path / "masks.jsonl").read_text().splitlines())  # one per frame, then the summary
        4
    """

    package: Path
    source: int | str | Path
    source_options: SourceOptions = field(default_factory=SourceOptions)
    max_frames: int | None = None
    variant: str | None = None
    threads: int | None = None
    workers: int | None = None
    tile: TileSize | None = None
    smooth: bool = False
    edges: Edges = "hard"
    effect: str | None = None
    opacity: float = 0.5
    legend: bool = False
    output: OutputOptions = field(default_factory=OutputOptions)
    json: str | None = None
    shapes: Shapes | None = None
    service: bool = False
    status: str | None = None
    status_interval_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values out of range, and settings that contradict each other."""
        self._check_values()
        output = self.output
        whole = self.smooth or self.edges == "soft"
        refused = {
            f"--effect {self.effect} — is drawn nowhere — add --save DIR or --show": self.effect is not None
            and not output.draws,
            "--shapes — go into the JSON lines — add --json FILE": self.shapes is not None and self.json is None,
            "--keep-mb — limits what --save writes — add --save DIR": output.limit_mb is not None
            and output.save is None,
            "--service and --show — a service has no screen — leave one of them out": self.service and output.show,
            "--json - and --raw - — both want standard output — name a file for one of them": self.json
            == output.raw
            == "-",
            "--tile with --smooth or --edges soft — those need the whole picture at once — leave one of them out": (
                self.tile is not None and whole
            ),
        }
        for message, found in refused.items():
            if found:
                raise UsageError(message)

    def _check_values(self) -> None:
        counts = {"--max-frames": self.max_frames, "--threads": self.threads, "--workers": self.workers}
        for option, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"{option} {count} — expected a whole number from 1")
        choices = {"--edges": (self.edges, get_args(Edges)), "--shapes": (self.shapes, (None, *get_args(Shapes)))}
        for option, (value, known) in choices.items():
            if value not in known:
                raise UsageError(f"{option} {value} — expected {' or '.join(filter(None, known))}")
        if not 0 < self.status_interval_s < math.inf:
            raise UsageError(f"--status-interval {self.status_interval_s:g} — expected seconds above 0")

    def check_kind(self, kind: Kind) -> None:
        """Refuse settings that do not go with the source, once it is recognised.

        Raises:
            UsageError: One does not.
        """
        refused = {
            "--service — is for cameras and streams, which come back — leave it out for files": self.service
            and kind != "live",
            "--smooth — averages over the frames of a video or camera — leave it out for images": self.smooth
            and kind == "images",
            "--workers — are for a folder of images; frames of a video depend on their order — leave it out": (
                self.workers is not None and kind != "images"
            ),
        }
        for message, found in refused.items():
            if found:
                raise UsageError(message)
