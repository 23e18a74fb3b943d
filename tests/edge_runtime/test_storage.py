import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import InputError, StorageError, UsageError
from edge_runtime.storage import new_folder, printable, read_bytes, replace_file, sha256, write_bytes, write_json

NEEDS_POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_written_file_is_whole_and_alone(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert names_in(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["ü" * 120, "画" * 80])
def test_long_names_are_written(tmp_path, name):
    write_bytes(tmp_path / name, b"x")
    assert names_in(tmp_path) == [name]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"^cannot write .*/none/a — no such file or directory — check the path$"):
        write_bytes(tmp_path / "none" / "a", b"")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory — check the path: a part of it is a file"):
        write_bytes(tmp_path / "file" / "a", b"")


def test_json_is_indented_ends_in_a_newline_and_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"name": "größe"})
    assert (tmp_path / "a.json").read_text() == '{\n  "name": "größe"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names_in(tmp_path) == ["a.json"]


def test_reading_raises_the_error_asked_for(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_bytes(tmp_path / "none", InputError)
    with pytest.raises(StorageError, match="is a directory"):
        read_bytes(tmp_path)


def test_a_finished_file_takes_its_name_or_goes(tmp_path):
    (tmp_path / "t").write_bytes(b"new")
    replace_file(tmp_path / "t", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"
    (tmp_path / "t").write_bytes(b"new")
    with pytest.raises(StorageError, match="cannot write"):
        replace_file(tmp_path / "t", tmp_path / "none" / "a")
    assert names_in(tmp_path) == ["a"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


@pytest.mark.parametrize(
    ("name", "text"), [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\udcff", "\\udcff"), ("é", "é")]
)
def test_a_name_is_printed_on_one_harmless_line(name, text):
    assert printable(name) == text


def test_a_new_folder_appears_at_the_end(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("x")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "sub" / "a").read_text() == "x"
    assert names_in(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_new_folder_leaves_nothing_behind_on_an_error(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
        raise error
    assert names_in(tmp_path) == []


def test_an_existing_output_is_refused_before_the_work(tmp_path):
    (tmp_path / "out").mkdir()
    worked = False
    with pytest.raises(UsageError, match="/out — exists — choose another name or pass --overwrite"):  # noqa: SIM117
        with new_folder(tmp_path / "out"):
            worked = True
    assert not worked
    assert names_in(tmp_path) == ["out"]


def test_an_output_that_appears_meanwhile_is_refused_too(tmp_path):
    with pytest.raises(UsageError, match="exists"), new_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other").touch()
    assert names_in(tmp_path / "out") == ["other"]


def test_overwrite_exchanges_the_whole_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "new").touch()
        assert names_in(tmp_path / "out") == ["old"]
    assert names_in(tmp_path / "out") == ["new"]
    assert names_in(tmp_path) == ["out"]


def test_overwrite_keeps_the_old_folder_on_an_error(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(ValueError), new_folder(tmp_path / "out", overwrite=True):
        raise ValueError
    assert names_in(tmp_path / "out") == ["old"]
    assert names_in(tmp_path) == ["out"]


def test_overwrite_does_not_take_a_file_for_a_folder(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError, match="is a file"), new_folder(tmp_path / "out", overwrite=True):
        pass
    assert (tmp_path / "out").read_text() == "precious"


KILLED_IN_A_NEW_FOLDER = """
import os, signal, sys
from pathlib import Path
from edge_runtime.storage import new_folder
with new_folder(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@NEEDS_POSIX
def test_kill_9_leaves_the_old_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    assert run_python(KILLED_IN_A_NEW_FOLDER, tmp_path / "out").returncode == -9
    assert names_in(tmp_path / "out") == ["old"]
    assert all(name.startswith(".") for name in names_in(tmp_path) if name != "out")


DISK_FULL = """
import resource, sys
from pathlib import Path
from edge_runtime.errors import StorageError
from edge_runtime.storage import new_folder, write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
root = Path(sys.argv[1])
try:
    if sys.argv[2] == "file":
        write_bytes(root / "a.bin", b"n" * 100_000)
    else:
        with new_folder(root / "out", overwrite=True) as folder:
            (folder / "a.bin").write_bytes(b"n" * 100_000)
except StorageError as error:
    sys.exit(str(error))
"""


@NEEDS_POSIX
@pytest.mark.parametrize(("kind", "name"), [("file", "a.bin"), ("folder", "out")])
def test_a_full_disk_keeps_what_was_there(tmp_path, kind, name):
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.bin").write_bytes(b"old")
    child = run_python(DISK_FULL, tmp_path, kind)
    assert child.stderr == (
        f"cannot write {tmp_path / name} — file too large — raise the file size limit or choose another folder\n"
    )
    assert child.returncode == 1
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "out" / "a.bin").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin", "out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_that_is_full_is_a_storage_error():
    from edge_runtime.storage import translated

    full = Path("/dev/full")
    with pytest.raises(StorageError, match="/dev/full — no space left on device — free some space"):  # noqa: SIM117
        with translated("write", full), full.open("wb", buffering=0) as file:
            file.write(b"x")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="permission denied — check the permissions"):
        write_bytes(tmp_path / "a", b"")


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    # A pseudo-terminal stands for /dev/null, which must not be at stake in a test.
    reader, writer = os.openpty()
    device = Path(os.ttyname(writer))
    try:
        write_bytes(device, b"status")
        assert os.read(reader, 100) == b"status"
        assert device.is_char_device()
    finally:
        os.close(reader)
        os.close(writer)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="it is no regular file"):
        write_bytes(tmp_path / "pipe", b"status")
    assert (tmp_path / "pipe").is_fifo()
