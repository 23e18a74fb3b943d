"""Command lines drawn from a grammar of options, sources, streams and states of the file system.

Every one ends in time, with a documented exit code and one line for an error, and changes no file that it does not own.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from colors import color_contract, color_scene, color_truth, write_color_package

LIMIT_S = 60
EXIT_CODES = {0, 2, 3, 4, 5, 6, 7}
DAILY, ALL = 12, 500

SOURCES = (
    *("a.jpg", "pics", "pics/*.jpg", "v.mp4", "bad.jpg", "cut.mp4", "missing.jpg", "-", "empty", "2024", "notes.txt"),
    *(
        "pics/**/*.jpg",
        "http://127.0.0.1:1/x",
        "rtsp://127.0.0.1:1/x",
        "ftp://x/y",
        "",
        "closed/a.jpg",
        "env:NOTHING",
        "\udce9.jpg",
    ),
)
FOLDERS = (
    "out",
    "out/deeper",
    "data",
    "closed/out",
    "fixed/out",
    "notes.txt",
    "model",
    "pics",
    "n" * 300,
    "o\udce9 \n",
    ".",
)
FILES = (
    "-",
    "r.jsonl",
    "out.bin",
    "notes.txt",
    "a.jpg",
    "missing/r",
    "closed/r",
    "fixed/r",
    "model/manifest.json",
)
EFFECTS = (
    "overlay",
    "mask",
    "blur",
    "cutout",
    "replace=a.jpg",
    "replace=#00ff00",
    "replace=missing",
    "replace=v.mp4",
    "blurr",
)
NUMBERS = ("1", "2", "0", "-1", "x", "99999999999999999999", "")
STREAMS = ("", "", "", ">&-", "2>&-", "<&-", ">/dev/full", "2>/dev/full", "| head -1", "2>&1 | true", "</dev/null")


def place(folder: Path) -> None:
    """Everything that the grammar names: pictures, videos, data made by hand, folders that are closed or read-only."""
    write_color_package(folder / "model", color_contract())
    for name in (
        "pics",
        "pics/more",
        "data/masks",
        "data/images",
        "data/test/images",
        "data/test/masks",
        "closed",
        "fixed",
        "empty",
        "2024",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    scene = color_scene()
    picture = cv2.imencode(".jpg", scene)[1].tobytes()
    for name in (
        "a.jpg",
        "pics/a.jpg",
        "pics/b.jpg",
        "pics/more/a.jpg",
        "2024/a.jpg",
        "closed/a.jpg",
        "data/images/a.jpg",
        "\udce9.jpg",
    ):
        (folder / name).write_bytes(picture)
    (folder / "bad.jpg").write_bytes(picture[:300])
    (folder / "notes.txt").write_text("mine\n")
    cv2.imwrite(str(folder / "data/masks/a.png"), np.full((48, 64), 1, np.uint8))
    cv2.imwrite(str(folder / "data/test/images/a.png"), scene)
    cv2.imwrite(str(folder / "data/test/masks/a.png"), color_truth(scene))
    writer = cv2.VideoWriter(str(folder / "v.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(20):
        writer.write(scene)
    writer.release()
    (folder / "cut.mp4").write_bytes((folder / "v.mp4").read_bytes()[:-200])
    (folder / "closed").chmod(0)
    (folder / "fixed").chmod(0o555)


def drawn(rng: random.Random) -> list[str]:
    """Draw a command line."""
    command = rng.choice(("run",) * 8 + ("info", "doctor", "bench", "eval"))
    package = rng.choice(("model",) * 8 + ("model/model.onnx", "missing", "notes.txt", "pics"))
    if command == "eval":
        return [
            command,
            package,
            rng.choice(("data", "pics", "missing", "closed")),
            *some(rng, {"--json": (None,), "--variant": ("fp32", "int8")}),
        ]
    if command != "run":
        more = (
            {"--json": (None,), "--runs": NUMBERS, "--threads": NUMBERS} if command == "bench" else {"--json": (None,)}
        )
        return [command, package, *some(rng, more)]
    options = {
        "--save": FOLDERS, "--json": FILES, "--raw": FILES, "--status": FILES, "--effect": EFFECTS, "--max-frames": NUMBERS,
        "--threads": NUMBERS, "--workers": NUMBERS, "--variant": ("fp32", "int8", ""), "--shapes": ("rle", "polygons", "x"),
        "--smooth": (None,), "--edges": ("soft", "hard"), "--tile": (None, "16x16", "0x0"), "--keep-mb": NUMBERS, "--legend": (None,),
        "--live": (None,), "--raw-size": ("48x64", "1x1", "x"), "--status-interval": NUMBERS, "--opacity": NUMBERS,
        "--camera-size": ("48x64",), "--timeout": ("1", "0"), "--source": SOURCES,
    }  # fmt: skip
    return [command, package, "--source", rng.choice(SOURCES), *some(rng, options)]


def some(rng: random.Random, options: dict[str, tuple[str | None, ...]]) -> list[str]:
    """Draw at most four options and their values."""
    words = []
    for option in rng.sample(sorted(options), min(len(options), rng.randrange(5))):
        value = rng.choice(options[option])
        words += [option] if value is None else [option, value]
    return words


def contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def cases(first: int, last: int, *, slow: bool) -> list[object]:
    return [pytest.param(seed, marks=pytest.mark.slow if slow else ()) for seed in range(first, last)]


@pytest.mark.parametrize("seed", [*cases(0, DAILY, slow=False), *cases(DAILY, ALL, slow=True)])
def test_it_ends_as_documented_and_keeps_what_is_there(tmp_path, seed):
    place(tmp_path)
    rng = random.Random(seed)
    words, stream = drawn(rng), rng.choice(STREAMS)
    after_s = rng.choice((None, None, None, rng.random() * 1.5))
    sent = rng.choice((signal.SIGINT, signal.SIGTERM))
    before = contents(tmp_path)
    command = [sys.executable, "-m", "edge_runtime", *words]
    if os.getuid() == 0 and shutil.which("setpriv"):
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    # Without `exec`, the shell and not the command would receive the signal.
    line = f'set -o pipefail; {"" if "|" in stream else "exec "}"$@" {stream}'
    shown = f"{shlex.join(words)} {stream}".encode("utf-8", "backslashreplace").decode()
    child = subprocess.Popen(
        ["bash", "-c", line, "bash", *command],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        try:
            _, stderr = child.communicate(b"", timeout=LIMIT_S if after_s is None else after_s)
        except subprocess.TimeoutExpired:
            assert after_s is not None, f"does not end: {shown}"
            child.send_signal(sent)
            _, stderr = child.communicate(timeout=LIMIT_S)
            after_s = -1.0  # the signal was sent
    finally:
        child.kill()
        (tmp_path / "closed").chmod(0o755)
    text = stderr.decode(errors="replace")
    interrupted = {128 + sent, -sent} if after_s == -1.0 else set()
    assert child.returncode in EXIT_CODES | interrupted, (child.returncode, shown, text)
    assert "Traceback" not in text and "Exception ignored" not in text, (shown, text)
    if child.returncode in EXIT_CODES - {0} and not stream.startswith("2>"):
        errors = [
            row
            for row in text.splitlines()
            if (row.startswith("edge-unet") and ": error:" in row) or row.startswith("edge-unet: ")
        ]
        assert errors, (shown, text)
    now = contents(tmp_path)
    assert {name: now.get(name) for name in before} == before, f"changed what was there: {shown}"
