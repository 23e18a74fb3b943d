"""A saved video keeps the sound of its source where the machine has ffmpeg, and says so where not."""

import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from edge_runtime.sources.containers import read_container

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def with_sound(path: Path, *codecs: str) -> Path:
    """A video of two seconds, with three seconds of a tone."""
    pictures = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2"]
    tone = ["-f", "lavfi", "-i", "sine=duration=3"]
    subprocess.run([FFMPEG, "-v", "error", *pictures, *tone, *codecs, path], check=True)
    return path


@pytest.fixture
def run(color_package, tmp_path, monkeypatch):
    """Run a video into a folder, with or without ffmpeg on the path; gives the line about the overlay."""

    def run(source: Path, *options: str, ffmpeg: bool = True) -> str:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        if ffmpeg:
            (programs / "ffmpeg").symlink_to(FFMPEG)
        monkeypatch.setenv("PATH", str(programs))
        command = [sys.executable, "-m", "edge_runtime", "run", str(color_package), "--source", str(source)]
        done = subprocess.run(
            [*command, "--save", str(tmp_path / "out"), *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stderr.splitlines() if "overlay" in line)

    return run


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("v.mp4", ["-c:v", "mpeg4", "-c:a", "aac"]),
        ("v.mov", ["-c:v", "mpeg4", "-c:a", "pcm_s16le"]),
        ("v.mkv", ["-c:v", "mpeg4", "-c:a", "libopus"]),
        ("v.webm", ["-c:v", "libvpx", "-c:a", "libvorbis"]),
        ("v.avi", ["-c:v", "mpeg4", "-c:a", "libmp3lame"]),
    ],
)
def test_it_is_kept(run, tmp_path, name, codecs):
    source = with_sound(tmp_path / name, *codecs)
    assert read_container(source).sound and not read_container(source).cut
    assert run(source).endswith(f"overlay.mp4 (20 frames, with the sound of {source})")
    found = read_container(tmp_path / "out" / "overlay.mp4")
    assert (found.sound, found.frames) == (True, 20)
    assert [path.name for path in (tmp_path / "out").iterdir() if ".tmp" in path.name] == []


def test_without_ffmpeg_its_loss_is_said(run, tmp_path):
    source = with_sound(tmp_path / "v.mp4", "-c:v", "mpeg4")
    assert run(source, ffmpeg=False).endswith(f"(20 frames, without the sound of {source}: install ffmpeg to keep it)")
    assert not read_container(tmp_path / "out" / "overlay.mp4").sound


def test_the_first_frames_alone_have_their_sound_alone(run, tmp_path):
    run(with_sound(tmp_path / "v.mp4", "-c:v", "mpeg4"), "--max-frames", "5")
    probe = subprocess.run(
        [FFMPEG, "-i", tmp_path / "out" / "overlay.mp4"], capture_output=True, text=True, check=False
    )
    assert "Duration: 00:00:00.5" in probe.stderr


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_it_is_in_step_with_pictures_that_begin_later(run, tmp_path, suffix):
    """The tone is silent until the second 2; the pictures begin at 1.5."""
    pictures = ["-itsoffset", "1.5", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2"]
    tone = ["-f", "lavfi", "-i", "sine=duration=4,volume=0:enable=lt(t\\,2)"]
    source = tmp_path / f"v.{suffix}"
    subprocess.run([FFMPEG, "-v", "error", *pictures, *tone, "-c:v", "mpeg4", "-c:a", "aac", source], check=True)
    run(source)
    heard = [FFMPEG, "-i", tmp_path / "out" / "overlay.mp4", "-af", "silencedetect=n=-40dB:d=0.1", "-f", "null", "-"]
    said = subprocess.run(heard, capture_output=True, text=True, check=False).stderr
    found = re.search(r"silence_end: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) == pytest.approx(0.5, abs=0.1)


def test_a_video_without_sound_says_nothing_of_it(run, tmp_path):
    source = with_sound(tmp_path / "v.mp4", "-c:v", "mpeg4", "-an")
    assert run(source).endswith("overlay.mp4 (20 frames)")
