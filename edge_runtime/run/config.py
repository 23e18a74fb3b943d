"""Configuration of a run, complete before anything is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from edge_runtime.errors import UsageError
from edge_runtime.models import PERSON
from edge_runtime.sinks.bytestream import is_stdout
from edge_runtime.sinks.outputs import OutputOptions
from edge_runtime.sinks.records import Shapes
from edge_runtime.sources import Kind, SourceOptions

Edges = Literal["hard", "soft"]
TileSize: TypeAlias = tuple[int, int] | Literal["model"]
"""(height, width) of a tile in pixels of the picture, or "model" for the size of the model's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Configuration of a run from a source to its outputs; see ``execute``.

    Error messages name the options of ``edge-unet run``, whose names are those of the fields.

    Attributes:
        package: Model package, or a bare .onnx file; the person model that comes with the runtime by default.
        source: Source as for ``open_source``.
        source_options: Options of the source.
        max_frames: Number of frames after which the run stops; None: at the end of the source.
        variant: Variant of the model; None: the device profile's, else the fastest in the package.
        threads: Threads per inference; None: the device profile's, else all usable cores, shared by the workers.
        workers: Images of a folder that are segmented at the same time; None: the number of usable cores.
        tile: Size of overlapping tiles into which large pictures are cut, instead of being shrunk; None: no tiles. With
            tiles, pictures of up to 400 megapixels are accepted, unless ``source_options`` sets another limit.
        smooth: Reduce the flicker of a video or live source.
        edges: "soft" lets the edges of the effect follow those of the picture.
        effect: Effect as for ``parse_effect``; None: an overlay.
        opacity: Opacity of the overlay, 0–1.
        legend: Write the class names on the overlay.
        output: Destinations of masks and pictures.
        json: File for one JSON line per frame and the summary; "-" for standard output.
        shapes: Add polygons or COCO RLE masks to the JSON lines.
        service: Run unattended: retry the source for ever, count results that cannot be written and continue, write the
            video in pieces, and raise ``WedgedError`` when native code hangs.
        overwrite: Replace files that no earlier run has written, except those that the run reads.
        status: File that is kept up to date with a JSON status; "-" for lines on stderr.
        status_interval_s: Seconds between two updates of the status.

    Example:
        >>> from edge_runtime import RunConfig, execute
        >>> config = RunConfig(package=package, source=folder, edges="soft", json=str(tmp_path / "masks.jsonl"))
        >>> summary = execute(config)
        >>> len((tmp_path / "masks.jsonl").read_text().splitlines())  # one per frame, then the summary
        4
    """

    package: str | Path = PERSON
    source: int | str | Path | Sequence[str | Path]
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
    overwrite: bool = False
    status: str | None = None
    status_interval_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values out of range and contradictory settings."""
        self._check_values()
        output = self.output
        whole = self.smooth or self.edges == "soft"
        status = None if self.status == "-" else self.status  # which is stderr
        targets = {"--json": self.json, "--raw": output.raw, "--status": status}
        stdout = [f"{option} {target}" for option, target in targets.items() if is_stdout(target)]
        refused = {
            f"--effect {self.effect} — is drawn nowhere — add --save DIR or --show": self.effect is not None
            and not output.draws,
            "--shapes — go into the JSON lines — add --json FILE": self.shapes is not None and self.json is None,
            "--keep-mb — limits what --save writes — add --save DIR": output.limit_mb is not None
            and output.save is None,
            "--service and --show — a service has no screen — leave one of them out": self.service and output.show,
            f"{' and '.join(stdout)} — both want standard output — name a file for one of them": len(stdout) > 1,
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
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"opacity is {self.opacity} — expected 0 (contours alone) to 1 (solid)")
        if not 0 < self.status_interval_s < math.inf:
            raise UsageError(f"--status-interval {self.status_interval_s:g} — expected seconds above 0")

    def check_kind(self, kind: Kind) -> None:
        """Refuse settings that do not apply to the kind of the source.

        Raises:
            UsageError: A setting does not apply.
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
