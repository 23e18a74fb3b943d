"""Find the best configuration of a package for this machine: variant, threads, spinning, execution provider.

Each configuration runs in its own process, because spinning sessions in one process disturb each other. Configurations
take turns, round by round, so that a slowdown of the machine affects all of them. A camera is simulated: a frame
arrives every 1/15 s, and the CPU time of idle threads between frames is counted. The child process is
``python -m edge_runtime.device.tune``.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_runtime.device.bench import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Percentiles
from edge_runtime.device.golden import MIN_AGREEMENT, golden_agreement
from edge_runtime.errors import EdgeUnetError, GateError, ModelError, UsageError
from edge_runtime.model.contract import Fields, parse_json
from edge_runtime.model.device_profile import DeviceProfile, Machine, describe, models_of
from edge_runtime.model.package import Package
from edge_runtime.model.session import SessionOptions
from edge_runtime.progress import OnProgress, silent
from edge_runtime.resources import usable_cores
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.timing import StageTimes
from edge_runtime.storage import printable

CAMERA_FPS = 15
WARM_UP_FRAMES = 5
FRAMES = 20
"""Number of timed frames per configuration and round."""
TIE = 0.05
"""Relative difference below which CPU times count as equal, so that the faster configuration wins."""
_CPU = "CPUExecutionProvider"
# Providers that compute on this machine. AzureExecutionProvider would send the frames elsewhere, and TensorRT builds
# its engine for minutes at each start.
_PROVIDERS = (
    *(_CPU, "XnnpackExecutionProvider", "ACLExecutionProvider", "OpenVINOExecutionProvider", "CoreMLExecutionProvider"),
    *("CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider", "DmlExecutionProvider"),
)
_THREADED = (_CPU, "XnnpackExecutionProvider", "ACLExecutionProvider")  # the others manage their own threads
_CHILD_LIMIT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Configuration to try: a variant of the package and the options of its session."""

    variant: str
    options: SessionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Figures measured by one process.

    Attributes:
        frames_ms: Milliseconds from a 640×480 frame to its mask, for each frame.
        cpu_ms: CPU time per frame in milliseconds, over all threads including idle ones.
    """

    frames_ms: tuple[float, ...]
    cpu_ms: float

    @classmethod
    def from_dict(cls, value: object, where: str) -> Measurement:
        """Read the output of a child process."""
        fields = Fields(value, where)
        measurement = cls(
            frames_ms=tuple(fields.take("frames_ms", list)),
            cpu_ms=fields.take("cpu_ms", float),
        )
        fields.finish()
        return measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Configuration with the figures of all its rounds, or with the reason why it is excluded."""

    configuration: Configuration
    frame_ms: Percentiles | None
    cpu_ms: float | None
    excluded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        figures = asdict(self)
        configuration = figures.pop("configuration")
        return {"variant": configuration["variant"], **configuration["options"], **figures}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Figures of all configurations, and the chosen one."""

    goal_ms: float
    rounds: int
    tried: tuple[Figures, ...]
    chosen: Figures
    goal_met: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the search as a JSON object."""
        return {
            "goal_ms": self.goal_ms,
            "goal_met": self.goal_met,
            "rounds": self.rounds,
            "camera_fps": CAMERA_FPS,
            "frame": {"height": FRAME_HEIGHT_PX, "width": FRAME_WIDTH_PX},
            "chosen": self.chosen.to_dict(),
            "configurations": [figures.to_dict() for figures in self.tried],
        }

    def profile(self, package: Package) -> DeviceProfile:
        """Return the device profile with the chosen configuration for this package and machine."""
        frame_ms, cpu_ms = _measured(self.chosen)
        return DeviceProfile(
            models=models_of(package),
            machine=Machine.here(),
            variant=self.chosen.configuration.variant,
            options=self.chosen.configuration.options,
            goal_ms=self.goal_ms,
            p50_ms=frame_ms.p50,
            p95_ms=frame_ms.p95,
            cpu_ms=cpu_ms,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def tune(package: Package, *, goal_ms: float = 33.0, rounds: int = 3, on_progress: OnProgress = silent) -> Tuning:
    """Try all configurations and choose one; see ``choose``.

    Args:
        package: Package to tune.
        goal_ms: Latency goal in milliseconds, which 95 of 100 frames should meet.
        rounds: Number of times that each configuration is measured.
        on_progress: Called before each process with its configuration and the number of processes before it.

    Raises:
        UsageError: The goal or the number of rounds is out of range.
        GateError: No configuration runs and computes the golden masks.
    """
    if not (math.isfinite(goal_ms) and goal_ms > 0):
        raise UsageError(f"goal is {goal_ms:g} ms — expected a latency above 0")
    if rounds < 1:
        raise UsageError(f"rounds is {rounds} — expected at least 1")
    tried = candidates(package.manifest.variants, usable_cores(), ort.get_available_providers())
    found: dict[Configuration, list[Measurement]] = {configuration: [] for configuration in tried}
    excluded: dict[Configuration, str] = {}
    for round_index in range(rounds):
        for index, configuration in enumerate(tried):
            if configuration in excluded:
                continue
            what = describe(configuration.variant, configuration.options)
            on_progress(what, round_index * len(tried) + index, rounds * len(tried))
            try:
                found[configuration].append(_measured_in_child(package, configuration))
            except EdgeUnetError as error:
                excluded[configuration] = str(error)
    figures = tuple(summary(c, found[c], excluded.get(c)) for c in tried)
    chosen, goal_met = choose(figures, goal_ms)
    return Tuning(goal_ms=goal_ms, rounds=rounds, tried=figures, chosen=chosen, goal_met=goal_met)


def candidates(variants: Iterable[str], cores: int, providers: Sequence[str]) -> list[Configuration]:
    """Return the configurations to try: threads in powers of two up to all cores, with and without spinning.

    Args:
        variants: Names of the package's variants.
        cores: Number of cores that this process may use.
        providers: Execution providers of this onnxruntime.
    """
    threads = sorted({*(1 << n for n in range(5) if 1 << n < cores), min(cores, 16)})
    # With a single thread, spinning makes no difference, because it never waits for others.
    pools = [(count, spinning) for count in threads for spinning in ((False, True) if count > 1 else (False,))]
    return [
        Configuration(variant=variant, options=SessionOptions(threads=count, spinning=spinning, provider=provider))
        for variant in variants
        for provider in _PROVIDERS
        if provider in providers
        for count, spinning in (pools if provider in _THREADED else [(cores, False)])
    ]


def summary(configuration: Configuration, rounds: Sequence[Measurement], excluded: str | None) -> Figures:
    """Combine the rounds of a configuration: percentiles over all frames, and the median of the CPU times."""
    if excluded is not None or not rounds:
        return Figures(configuration=configuration, frame_ms=None, cpu_ms=None, excluded=excluded)
    p50, p95 = np.percentile([ms for measurement in rounds for ms in measurement.frames_ms], (50, 95))
    cpu_ms = float(np.median([measurement.cpu_ms for measurement in rounds]))
    return Figures(configuration=configuration, frame_ms=Percentiles(p50=float(p50), p95=float(p95)), cpu_ms=cpu_ms)


def choose(tried: Sequence[Figures], goal_ms: float) -> tuple[Figures, bool]:
    """Choose the best configuration; return it, and whether it meets the goal.

    Of the configurations whose 95th percentile meets the goal, the one with the least CPU time per frame is chosen. CPU
    times within 5 % of the least count as equal; among these, the lowest median latency decides. If no configuration
    meets the goal, the one with the lowest median latency is chosen.

    Raises:
        GateError: All configurations are excluded.
    """
    usable = [(figures, *_measured(figures)) for figures in tried if figures.excluded is None]
    if not usable:
        reason = tried[0].excluded if tried else "nothing to try"
        raise GateError(f"tune — none of {len(tried)} configurations can be used — {reason}")
    within = [entry for entry in usable if entry[1].p95 <= goal_ms]
    if within:
        least_ms = min(cpu_ms for _, _, cpu_ms in within)
        usable = [entry for entry in within if entry[2] <= least_ms * (1 + TIE)]
    return min(usable, key=lambda entry: entry[1].p50)[0], bool(within)


def measure(package: Package, configuration: Configuration) -> Measurement:
    """Run the golden frames, then a simulated camera of 15 frames per second, in this process.

    Raises:
        GateError: The golden masks differ from those of the exporting machine.
        ModelError: The configuration does not load or run.
        UsageError: This onnxruntime does not have the execution provider.
    """
    segmenter = Segmenter.load(package.root, variant=configuration.variant, options=configuration.options)
    agreement = golden_agreement(segmenter, package)
    if agreement is not None and agreement < MIN_AGREEMENT:
        raise GateError(
            f"{agreement:.4%} of the golden pixels agree, expected at least {MIN_AGREEMENT:.1%}: it computes something "
            "else here"
        )
    frame = np.random.default_rng(0).integers(0, 256, (FRAME_HEIGHT_PX, FRAME_WIDTH_PX, 3), dtype=np.uint8)
    for _ in _paced(WARM_UP_FRAMES):
        segmenter(frame)
    cpu_start_s = time.process_time()
    frames_ms = []
    for _ in _paced(FRAMES):
        times = StageTimes()
        segmenter(frame, times)
        frames_ms.append(times.total_ms)
    cpu_ms = (time.process_time() - cpu_start_s) * 1e3 / FRAMES
    return Measurement(frames_ms=tuple(frames_ms), cpu_ms=cpu_ms)


def main(package: str, variant: str, options: str) -> None:
    """Measure one configuration and print the result or the error as one line of JSON; runs in the child process.

    Args:
        package: Folder of the package.
        variant: Name of the variant.
        options: ``SessionOptions`` as JSON.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configuration = Configuration(variant=variant, options=SessionOptions(**json.loads(options)))
    try:
        result = asdict(measure(Package.open(Path(package)), configuration))
    except EdgeUnetError as error:
        result = {"error": str(error)}
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")


def _end_with_parent() -> None:
    """End this process when the pipe to its parent breaks."""
    os.read(0, 1)
    os._exit(1)


def _paced(frames: int) -> Iterator[int]:
    """Yield frame numbers at the camera's rate, without waiting if a frame is late, and pause once more at the end."""
    due_s = time.perf_counter()
    for index in range(frames):
        yield index
        due_s = max(due_s + 1 / CAMERA_FPS, time.perf_counter())
        time.sleep(max(0.0, due_s - time.perf_counter()))


def _measured_in_child(package: Package, configuration: Configuration) -> Measurement:
    """Measure a configuration in a child process, which ends if an exception is raised here.

    Raises:
        ModelError: The configuration does not run, or its golden masks differ.
    """
    options = json.dumps(asdict(configuration.options))
    arguments = [str(package.root.absolute()), configuration.variant, options]
    # The child uses the import path of this process, and not the working folder (-P).
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    command = [sys.executable, "-P", "-m", "edge_runtime.device.tune", *arguments]
    exit_code, out, err = _run(command, environment)
    lines = out.strip().splitlines()
    if exit_code != 0 or not lines:
        what = f"died of signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        said = err.strip().splitlines()
        raise ModelError(f"the process ended early ({what})" + (f": {printable(said[-1])[:200]}" if said else ""))
    result = parse_json(lines[-1], "measurement")
    if isinstance(result, dict) and "error" in result:
        raise ModelError(str(result["error"]))
    return Measurement.from_dict(result, "measurement")


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a child to its end and return its exit code, stdout and stderr.

    Raises:
        ModelError: The child took too long.
    """
    lifeline, held = os.pipe()  # the child ends when it breaks, even if this process is killed
    try:
        child = subprocess.Popen(
            command,
            stdin=lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        # On Ctrl-C, subprocess.run would kill the child without waiting for its end.
        with child:
            try:
                out, err = child.communicate(timeout=_CHILD_LIMIT_S)
            finally:
                child.kill()  # does nothing if the child has ended
                child.wait()
    except subprocess.TimeoutExpired as cause:
        raise ModelError(f"took more than {_CHILD_LIMIT_S} s") from cause
    finally:
        os.close(lifeline)
        os.close(held)
    return child.returncode, out, err


def _measured(figures: Figures) -> tuple[Percentiles, float]:
    """Return the figures of a configuration that is not excluded."""
    if figures.frame_ms is None or figures.cpu_ms is None:
        raise ValueError("an excluded configuration has no figures")
    return figures.frame_ms, figures.cpu_ms


if __name__ == "__main__":
    main(*sys.argv[1:])
