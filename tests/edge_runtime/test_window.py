"""The window: a real one on a display of its own, pressed with real keys, seen with real screenshots."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from results import frame

from edge_runtime.errors import UsageError
from edge_runtime.sinks import Window, check_display
from edge_runtime.sinks.display import display_picture, draw_text, window_size

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 60.0
OVERLAY_BGR, MASK_BGR = (40, 160, 40), (200, 60, 20)

missing = [tool for tool in ("Xvfb", "xdotool", "import") if shutil.which(tool) is None]
on_a_display = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def eventually(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.02)
    return found


@pytest.fixture(scope="module")
def display():
    """A display in memory, 1400 x 800 pixels; gives the environment to use it."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1400x800x24", "-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as number:
            name = number.readline().strip()
        assert name, "Xvfb does not start"
        environment = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
        yield {**environment, "DISPLAY": f":{name}", "QT_LOGGING_RULES": "*=false"}
        server.terminate()


class ClientMessage(ctypes.Structure):
    """``XClientMessageEvent`` of X11, as large as every event is."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("rest", ctypes.c_long * 24),
    ]


class App:
    """``window_app.py`` as a process."""

    def __init__(self, display, process):
        self.display, self.process = display, process
        self.reports = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.window = ""

    def find(self):
        search = ["search", "--all", "--onlyvisible", "--pid", str(self.process.pid), "--name", "^edge-unet: "]
        self.window = eventually(lambda: self._tool(*search), "no window").strip()
        eventually(self._painted, "the window stays empty")
        eventually(lambda: self._tool("windowfocus", self.window) is not None, "no focus")

    def _painted(self):
        """Wait for a picture. Without a window manager Qt may miss that its window was mapped: then do that again."""
        patience = time.monotonic() + 1.0
        while time.monotonic() < patience:
            if self.screen().any():
                return True
        self._tool("windowunmap", self.window, "windowmap", self.window)
        return False

    def _read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):  # the last one, when it is killed, may be half a line
                self.reports.append(json.loads(line))

    def _tool(self, *arguments):
        done = subprocess.run(["xdotool", *arguments], env=self.display, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def key(self, name):
        assert self._tool("key", name) is not None

    def tool(self, *arguments):
        assert self._tool(*arguments) is not None

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def written(self):
        return [report["wrote"] for report in self.reports if "wrote" in report]

    def wrote(self, count):
        eventually(lambda: len(self.written()) >= count, f"{count} frames")

    def waits(self):
        """Wait until a frame is held up, and so long that its picture has been on the screen: for a person."""

        def ask():
            before = len(self.reports)
            self.say("?")
            eventually(lambda: any("waiting" in report for report in self.reports[before:]), "no answer")
            return next(report for report in self.reports[before:] if "waiting" in report)["waiting"]

        eventually(ask, "it does not wait")

    def ended(self):
        assert self.process.wait(DEADLINE_S) == 0
        self.reader.join(DEADLINE_S)
        assert self.reports[-1] == {"end": True, "wants_more": self.reports[-1]["wants_more"], "threads": 2}
        return self.reports[-1]

    def cross(self):
        """Ask the window to close, as a window manager does whose cross was clicked; there is none here."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype, x11.XInternAtom.restype = ctypes.c_void_p, ctypes.c_ulong
        connection = ctypes.c_void_p(x11.XOpenDisplay(self.display["DISPLAY"].encode()))
        protocols, delete = (x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
        message = ClientMessage(type=33, send_event=1, window=int(self.window), message_type=protocols, format=32)
        message.data[0] = delete
        assert x11.XSendEvent(connection, ctypes.c_ulong(int(self.window)), 0, ctypes.c_long(0), ctypes.byref(message))
        x11.XCloseDisplay(connection)

    def screen(self):
        done = subprocess.run(["import", "-window", "root", "png:-"], env=self.display, capture_output=True, check=True)
        return cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)

    def shows(self, bgr, at):
        eventually(lambda: np.abs(self.screen()[at].astype(int) - bgr).max() <= 6, f"{bgr} at {at}")


@contextmanager
def app(display, kind, size="240x320", count=100_000, save=""):
    command = [sys.executable, "tests/support/window_app.py", kind, size, str(count), *([str(save)] if save else [])]
    environment = {**display, "PYTHONPATH": str(PROJECT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes) as process:
        running = App(display, process)
        try:
            running.find()
            yield running
        finally:
            process.kill()
            running.reader.join()


@on_a_display
class TestKeys:
    @pytest.mark.parametrize("key", ["q", "Escape"])
    def test_q_and_escape_quit(self, display, key):
        with app(display, "live") as running:
            running.wrote(3)
            running.key(key)
            assert running.ended()["wants_more"] is False

    def test_the_cross_quits(self, display):
        with app(display, "images") as running:
            running.waits()
            running.cross()
            assert running.ended()["wants_more"] is False

    def test_space_pauses_and_goes_on(self, display):
        with app(display, "video") as running:
            running.wrote(3)
            running.key("space")
            running.waits()
            at = len(running.written())
            running.shows(OVERLAY_BGR, (120, 160))
            running.key("e")
            running.shows(MASK_BGR, (120, 100))
            assert len(running.written()) <= at + 1, "the frame that waits is drawn again, and no other comes"
            running.key("space")
            running.wrote(at + 5)
            running.key("q")
            running.ended()
        drawn = [report["drawn"] for report in running.reports if "wrote" in report]
        assert ["overlay", "mask"] in drawn and drawn[0] == ["overlay"] and drawn[-1] == ["mask"]

    def test_h_hides_the_text_and_shows_it_again(self, display):
        with app(display, "live") as running:

            def dark():
                return running.screen()[:20, :60].mean() < 60

            running.wrote(5)
            eventually(dark, "no text")
            running.key("h")
            eventually(lambda: not dark(), "text")
            running.key("h")
            eventually(dark, "no text")

    def test_the_picture_names_the_keys_at_first(self, display):
        with app(display, "live") as running:

            def named():
                return running.screen()[216:236, :60].mean() < 60

            eventually(named, "no keys")
            eventually(lambda: not named(), "the keys stay")

    def test_each_image_waits_for_a_key_that_is_none_of_the_others(self, display, tmp_path):
        (tmp_path / "masks").mkdir()
        (tmp_path / "overlays").mkdir()
        with app(display, "images", count=3, save=tmp_path) as running:
            running.waits()
            for key in ("h", "shift", "control"):
                running.key(key)
            running.waits()
            assert running.written() == []
            running.key("Left")  # its code ends in the eight bits of Q
            running.wrote(1)
            running.waits()
            running.key("e")
            running.shows(MASK_BGR, (120, 100))
            assert running.written() == [0]
            running.waits()
            running.key("space")
            running.wrote(2)
            running.waits()
            running.key("Return")
            assert running.ended()["wants_more"] is False, "closed at the end"
        assert [r["drawn"] for r in running.reports if "wrote" in r] == [["overlay"], ["overlay", "mask"], ["mask"]]
        saved = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "overlays").iterdir())]
        assert [picture.shape[2] for picture in saved] == [3, 3, 4]
        assert all(np.ptp(picture.reshape(-1, picture.shape[2])[:, :3], axis=0).max() <= 2 for picture in saved), (
            "text is drawn on the screen only"
        )


@on_a_display
class TestTheEnd:
    def test_stop_ends_the_wait_for_a_key(self, display):
        with app(display, "images") as running:
            running.waits()
            running.say("stop")
            running.ended()

    def test_stop_ends_a_pause(self, display):
        with app(display, "live") as running:
            running.wrote(2)
            running.key("space")
            running.waits()
            running.say("stop")
            running.ended()


@on_a_display
class TestPicture:
    def test_transparent_parts_show_a_checkerboard(self, display):
        with app(display, "live") as running:
            running.wrote(5)
            running.key("e")
            running.shows(MASK_BGR, (120, 100))
            squares = (slice(100, 200), slice(170, 310))
            eventually(lambda: set(np.unique(running.screen()[squares])) == {153, 204}, "no checkerboard")

    @pytest.mark.parametrize(("size", "inside"), [("48x64", (235, 315)), ("2160x3840", (715, 1275))])
    def test_pictures_of_any_size_are_seen_as_a_whole(self, display, size, inside):
        with app(display, "live", size=size) as running:
            running.shows(OVERLAY_BGR, inside)
            running.shows((0, 0, 0), (inside[0] + 12, inside[1] + 12))

    def test_a_larger_window_is_filled(self, display):
        with app(display, "images") as running:
            running.shows(OVERLAY_BGR, (120, 310))
            running.tool("windowsize", running.window, "960", "720")
            running.shows(OVERLAY_BGR, (710, 950))
            eventually(lambda: running.screen()[:20, 200:300].min() > 30, "the text was enlarged too")


class TestHandOver:
    def test_the_newest_picture_of_a_camera_is_kept_and_nobody_waits(self):
        window = Window("live", ["overlay"], threading.Event())
        for index in range(100):
            assert window.write(frame(index), frame(index).image_bgr) is False

    def test_an_image_waits_until_the_run_is_to_end(self, monkeypatch):
        stop = threading.Event()
        window, waits = Window("images", ["overlay"], stop), threading.Event()
        wait = window._changed.wait
        monkeypatch.setattr(window._changed, "wait", lambda seconds: waits.set() or wait(seconds))
        worker = threading.Thread(target=window.write, args=(frame(), frame().image_bgr))
        worker.start()
        assert waits.wait(DEADLINE_S)
        assert worker.is_alive()
        stop.set()
        worker.join(DEADLINE_S)
        assert not worker.is_alive()

    def test_a_picture_of_an_effect_that_is_not_wanted_any_more(self):
        window = Window("live", ["overlay", "mask"], threading.Event())
        assert window.write(frame(), frame().image_bgr, effect=1) is True

    def test_pump_without_a_picture_opens_no_window_and_takes_its_time(self, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        clock = SimpleNamespace(now_s=0.0, monotonic=lambda: clock.now_s)
        monkeypatch.setattr("edge_runtime.sinks.window.time", clock)
        window = Window("live", ["overlay"], threading.Event())

        def wait(seconds):
            clock.now_s += max(seconds / 2, 0.125)  # a condition may wake up early

        monkeypatch.setattr(window._changed, "wait", wait)
        window.pump(0.5)
        assert clock.now_s == pytest.approx(0.5)
        assert window.close() == []


class TestDrawing:
    @pytest.mark.parametrize("size", [(1, 1), (3, 500), (480, 640), (2160, 3840), (4000, 100)])
    def test_a_window_fits_the_screen_and_keeps_the_shape(self, size):
        height, width = window_size(*size)
        assert 1 <= height <= 720 and 1 <= width <= 1280
        if min(height, width) > 20:
            assert height / width == pytest.approx(size[0] / size[1], rel=0.05)

    @pytest.mark.parametrize("channels", [3, 4])
    @pytest.mark.parametrize("size", [(48, 64), (480, 640), (1, 1)])
    def test_it_is_a_copy_always(self, size, channels):
        picture = np.full((*size, channels), 90, np.uint8)
        shown = display_picture(picture, *size)
        assert shown.shape == (*size, 3) and not np.shares_memory(shown, picture)

    @pytest.mark.parametrize("width", [1, 10, 100, 1000])
    def test_text_never_leaves_the_picture(self, width):
        picture = np.full((200, width, 3), 255, np.uint8)
        draw_text(picture, "30.0 fps  12 ms  overlay")
        assert (picture[40:] == 255).all()
        if width >= 400:
            assert (picture[:, 300:] == 255).all() and picture[:30, :100].min() == 63

    @pytest.mark.parametrize("height", [1, 200])
    def test_text_at_the_bottom(self, height):
        picture = np.full((height, 400, 3), 255, np.uint8)
        draw_text(picture, "q quit   e effect", at_bottom=True)
        assert (picture[:-40] == 255).all() and picture[-30:, :100].min() == 63


class TestDisplay:
    def test_without_one(self, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(UsageError, match=r"^--show — no display \(DISPLAY and WAYLAND_DISPLAY are not set\)"):
            check_display()

    def test_one_that_is_not_there_does_not_end_the_process(self, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":4711")
        with pytest.raises(UsageError, match=r"the display refuses a window \(DISPLAY=:4711\) — use --save"):
            check_display()

    def test_an_opencv_without_windows(self, monkeypatch):
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
        with pytest.raises(UsageError, match="opencv-python-headless is installed, which has no windows"):
            check_display()

    @on_a_display
    def test_one_that_works(self, monkeypatch, display):
        monkeypatch.setenv("DISPLAY", display["DISPLAY"])
        check_display()
