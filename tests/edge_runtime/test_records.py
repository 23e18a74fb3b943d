"""JSON Lines, and bytes to files, named pipes and standard output."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from results import full_disk, result

from edge_runtime.errors import StorageError
from edge_runtime.sinks import JsonLines, frame_record

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30.0

WRITER = """
import sys, threading
from edge_runtime.sinks.records import JsonLines
stop = threading.Event()
def listen():
    sys.stdin.readline()
    stop.set()
threading.Thread(target=listen, daemon=True).start()
with JsonLines("-", stop) as lines:
    for index in range(100_000):
        lines.write({"index": index, "text": "x" * 5000})
        if stop.is_set():
            break
    lines.write({"summary": index})
sys.stderr.write(f"ended after {index}\\n")
"""


def writer(**pipes):
    command = [sys.executable, "-c", WRITER]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    return subprocess.Popen(command, cwd=PROJECT, **streams)


def blocked(child):
    """Whether a process waits for the reader of its pipe and has done so for a while: it has used no time."""

    def used():
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]

    before, deadline = used(), time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        threading.Event().wait(0.5)
        if (now := used()) == before and int(now[0]) > 0:
            return True
        before = now
    return False


class TestJsonLines:
    def test_a_file_is_written_line_by_line(self, tmp_path):
        path = tmp_path / "x.jsonl"
        with JsonLines(str(path)) as lines:
            lines.write({"a": "ü\udcff"})
            assert path.read_bytes() == b'{"a": "\\u00fc\\udcff"}\n', "at once, not at the end"
            lines.write({"b": 1})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": "ü\udcff"}, {"b": 1}]

    def test_a_file_of_others_in_its_place_is_left_alone(self, tmp_path):
        path = tmp_path / "r.jsonl"
        with JsonLines(str(path)) as lines:
            lines.write({"a": 1})
            path.replace(tmp_path / "r.jsonl.1")
            path.write_text("precious\n")
            with pytest.raises(StorageError, match=r"r\.jsonl — another program has put a file in its place"):
                lines.write({"a": 2})
        assert path.read_text() == "precious\n"

    def test_an_earlier_file_stays_until_the_first_line(self, tmp_path):
        (tmp_path / "x").write_text("old\n")
        with JsonLines(str(tmp_path / "x")):
            pass
        assert (tmp_path / "x").read_text() == "old\n"

    def test_an_earlier_file_is_replaced(self, tmp_path):
        (tmp_path / "x").write_text("old\n" * 100)
        with JsonLines(str(tmp_path / "x")) as lines:
            lines.write({})
        assert (tmp_path / "x").read_text() == "{}\n"

    def test_full_disk(self):
        with JsonLines("/dev/full") as lines, pytest.raises(StorageError, match="cannot write /dev/full — no space"):
            lines.write({"a": 1})

    def test_after_a_full_disk_the_file_holds_whole_lines_only(self, tmp_path):
        path = tmp_path / "x.jsonl"
        with JsonLines(str(path)) as lines:
            lines.write({"a": "x" * 400})
            with full_disk(1000):
                for _ in range(2):
                    with pytest.raises(StorageError, match="file too large — raise the file size limit"):
                        lines.write({"b": "x" * 2000})
                lines.write({"c": "small"})
            lines.write({"d": "x" * 2000})
        assert [next(iter(json.loads(line))) for line in path.read_text().splitlines()] == ["a", "c", "d"]

    def test_path_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="not a directory — check the path: a part of it is a file"):
            JsonLines(str(tmp_path / "file" / "x.jsonl"))

    def test_not_a_number_is_refused(self, tmp_path):
        with JsonLines(str(tmp_path / "x")) as lines, pytest.raises(ValueError, match="not JSON compliant"):
            lines.write({"a": float("nan")})

    def test_lines_of_several_threads_are_not_mixed(self, tmp_path):
        def write(number):
            for _ in range(50):
                lines.write({"text": str(number) * 3000})

        with JsonLines(str(tmp_path / "x")) as lines:
            threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        found = [json.loads(line)["text"] for line in (tmp_path / "x").read_text().splitlines()]
        assert sorted(found) == sorted(str(number) * 3000 for number in range(8) for _ in range(50))


class TestReaders:
    def test_a_slow_one_gets_everything(self, tmp_path):
        with writer() as child:
            assert blocked(child)
            child.stdin.write(b"\n")
            child.stdin.flush()
            stdout = child.stdout.read()
        lines = [json.loads(line) for line in stdout.splitlines()]
        assert [line["index"] for line in lines[:-1]] == list(range(len(lines) - 1))
        assert lines[-1] == {"summary": len(lines) - 2}

    @pytest.mark.parametrize("kind", ["pipe", "socket"])
    def test_one_that_has_stalled_does_not_hold_up_the_end(self, kind):
        if kind == "pipe":
            reader, end = os.pipe()
        else:
            import socket

            near, far = socket.socketpair()
            reader, end = near.detach(), far.detach()
        try:
            with writer(stdout=end) as child:
                assert blocked(child)
                _, stderr = child.communicate(b"\n", timeout=DEADLINE_S)
        finally:
            os.close(reader)
            os.close(end)
        assert child.returncode == 0 and stderr.startswith(b"ended after ")

    def test_a_blocking_pipe_stays_one_for_those_who_share_it(self):
        reader, end = os.pipe()
        with writer(stdout=end) as child:
            assert blocked(child)
            assert os.get_blocking(end)
            child.communicate(b"\n", timeout=DEADLINE_S)
        os.close(reader)
        os.close(end)

    def test_one_that_leaves(self):
        with writer() as child:
            child.stdout.readline()
            child.stdout.close()
            stderr = child.stderr.read()
            child.stdin.close()
        assert b"BrokenPipeError" in stderr and b"StorageError" not in stderr

    def test_after_it_has_left_lines_go_nowhere_and_the_first_error_has_the_name_of_the_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with JsonLines(str(tmp_path / "pipe")) as lines:
            lines.write({"a": 1})
            assert os.read(reader, 100) == b'{"a": 1}\n'
            os.close(reader)
            with pytest.raises(BrokenPipeError) as caught:
                lines.write({"b": 1})
            assert caught.value.filename == str(tmp_path / "pipe")
            lines.write({"c": 1})

    def test_a_named_pipe_waits_for_its_reader(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        found = []
        reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()))
        starter = threading.Timer(0.3, reader.start)
        starter.start()
        with JsonLines(str(tmp_path / "pipe")) as lines:
            lines.write({"a": 1})
        starter.join()
        reader.join()
        assert found == ['{"a": 1}\n']

    def test_a_named_pipe_without_a_reader_does_not_hold_up_the_end(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        with JsonLines(str(tmp_path / "pipe"), stop) as lines:
            lines.write({"a": 1})

    def test_a_signal_handler_may_run_meanwhile(self):
        """A signal interrupts the waiting, which goes on."""
        calls = []
        old = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        reader, end = os.pipe()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            stop = threading.Event()
            threading.Timer(0.5, stop.set).start()
            with JsonLines(f"/proc/self/fd/{end}", stop) as lines:
                for _ in range(100):
                    lines.write({"a": "x" * 5000})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
            for descriptor in (reader, end):
                os.close(descriptor)
        assert calls


class TestFrameRecord:
    def test_everything_about_a_frame(self, tmp_path):
        assert frame_record(result(3, flags=("black",)), tmp_path / "m.png") == {
            "frame": 3,
            "source": "x",
            "size": [48, 64],
            "flags": ["black"],
            "time_s": None,
            "age_ms": 2.5,
            "latency_ms": 1.235,
            "classes": {"background": 0.5, "red": 0.0, "blue": 0.5},
            "mask": f"{tmp_path}/m.png",
        }
        assert frame_record(result(), None)["mask"] is None

    def test_polygons(self):
        record = json.loads(json.dumps(frame_record(result(), None, "polygons")))
        assert record["polygons"] == {"blue": [[0, 0, 0, 47, 31, 47, 31, 0]]} and "rle" not in record

    def test_run_lengths(self):
        record = json.loads(json.dumps(frame_record(result(), None, "rle")))
        assert record["rle"] == {"blue": {"size": [48, 64], "counts": "0PPPP1"}} or record["rle"]["blue"]["size"]
