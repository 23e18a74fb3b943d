"""SIGINT and SIGTERM in every state: the process is gone within two seconds and what it wrote can be read.

The daily suite tries each state once with each signal, the slow one twenty times.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import pytest
from mjpeg import camera

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30.0
GONE_S = 2.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
TIMES = 20


def until(condition, child):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.005)


@contextmanager
def running(package, source, *options, **pipes):
    command = [sys.executable, "-m", "edge_runtime", "run", str(package), "--source", str(source), *map(str, options)]
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, **pipes)
    finally:
        signal.signal(signal.SIGINT, inherited)
    with child:
        try:
            yield child
        finally:
            child.kill()


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def opening(stack, make_package, folder):
    server = stack.enter_context(camera(mode="stall"))
    child = stack.enter_context(
        # A service does not ask the address first what it holds.
        running(make_package(), server.url, "--service", "--json", folder / "x.jsonl", "--save", folder / "o")
    )
    until(server.asked.is_set, child)
    return child


def reading(stack, make_package, folder):
    """Slow frames: nearly all the time it waits for the next."""
    server = stack.enter_context(camera(interval_s=0.1))
    child = stack.enter_context(
        running(make_package(), server.url, "--json", folder / "x.jsonl", "--save", folder / "o")
    )
    until(lambda: lines_in(folder / "x.jsonl") > 2, child)
    return child


def stalled(stack, make_package, folder):
    """The read blocks in FFmpeg for 30 seconds."""
    server = stack.enter_context(camera(stop_after=30, then="stall"))
    options = ("--timeout", 30, "--json", folder / "x.jsonl", "--save", folder / "o")
    child = stack.enter_context(running(make_package(), server.url, *options))
    until(lambda: server.sent == 30 and lines_in(folder / "x.jsonl") > 2, child)
    return child


def inferring(stack, make_package, folder):
    """A model so large that it takes nearly all the time."""
    server = stack.enter_context(camera())
    options = ("--json", folder / "x.jsonl", "--save", folder / "o")
    child = stack.enter_context(running(make_package(height_px=2048, width_px=2048), server.url, *options))
    until(lambda: lines_in(folder / "x.jsonl") > 2, child)
    return child


def writing(stack, make_package, folder):
    """Nobody reads the pictures that it writes to a pipe."""
    server = stack.enter_context(camera())
    taken, kept = os.pipe()
    stack.callback(os.close, taken)
    options = ("--raw", "-", "--json", folder / "x.jsonl", "--save", folder / "o")
    child = stack.enter_context(running(make_package(), server.url, *options, stdout=kept))
    os.close(kept)

    def full():
        before = lines_in(folder / "x.jsonl")
        threading.Event().wait(0.1)
        return before > 2 and lines_in(folder / "x.jsonl") == before

    until(full, child)
    return child


STATES = [opening, reading, stalled, inferring, writing]


def check(number, state, make_package, folder):
    """Bring a process into a state, send the signal, look at what is left; return the seconds it took to end."""
    folder.mkdir()
    with ExitStack() as stack:
        child = state(stack, make_package, folder)
        sent_at = time.monotonic()
        child.send_signal(number)
        _, stderr = child.communicate(timeout=DEADLINE_S)
        took_s = time.monotonic() - sent_at
    assert child.returncode == CODES[number], stderr
    assert b"Traceback" not in stderr and b"Fatal" not in stderr
    *frames, last = [json.loads(line) for line in (folder / "x.jsonl").read_text().splitlines()]
    summary = last["summary"]
    assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"]
    assert summary["processed"] == len(frames)
    assert not list((folder / "o").rglob(".*.tmp*")), "no temporary file is left"
    if frames:
        capture = cv2.VideoCapture(str(folder / "o" / "overlay.mp4"), cv2.CAP_FFMPEG)
        count = 0
        while capture.read()[0]:
            count += 1
        capture.release()
        assert abs(count - len(frames)) <= 1
    return took_s


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_signal_ends_it_with_its_code_and_whole_files(number, state, make_color_package, tmp_path):
    check(number, state, make_color_package, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_it_is_gone_within_two_seconds_every_time(number, state, make_color_package, tmp_path):
    took_s = []
    for count in range(TIMES):
        took_s.append(
            check(number, state, lambda c=count, **o: make_color_package(f"p{c}", **o), tmp_path / f"r{count}")
        )
    print(f"{state.__name__} {number.name}: gone after {max(took_s):.2f} s at most, {TIMES} times")
    assert max(took_s) < GONE_S
