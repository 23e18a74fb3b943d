"""Each state that a crash can leave in a run folder, and what the next start does with it."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from epochs import epoch_record

from edge_runtime.errors import StorageError, UsageError
from training.errors import ResumeError
from training.loop.run_folder import RunFolder, open_run
from training.loop.run_record import FORMAT_VERSION, EpochSums, RunRecord

NOTHING = {"format_version": FORMAT_VERSION, "history": [], "checkpoints": {"best": [], "states": []}, "elapsed_s": 0.0}


def model(epoch):
    return f"model of epoch {epoch}".encode() * 100


def arrays(epoch):
    return {"weights": np.full((3, 4), epoch, np.float32), "steps": np.asarray(epoch * 10)}


def write_epoch(run, epoch, *, best, step=0):
    """Write what the trainer writes at the end of an epoch, in its order."""
    if best:
        run.write_best(model(epoch), epoch=epoch, val_mean_iou=epoch / 10)
    run.add_epoch(epoch_record(epoch))
    run.write_state(arrays(epoch), epoch=epoch, step=step, elapsed_s=float(epoch), sums=EpochSums(loss=0.5))


def write_run(root, *, epochs=3, best=(1, 3)):
    with open_run(root, resume=False) as run:
        for epoch in range(1, epochs + 1):
            write_epoch(run, epoch, best=epoch in best)
    return root


def resume(root):
    """Return the epoch of the state and of the best model that a resumed run starts from, and its record."""
    with open_run(root, resume=True) as run:
        found = run.read_state()
        if found is not None:
            state, entry = found
            assert state.keys() == arrays(1).keys()
            assert all((state[name] == value).all() for name, value in arrays(entry.epoch).items())
        best = run.best_on_disk()
        if best is not None:
            assert run.best.read_bytes() == model(best.epoch)
        return found and found[1].epoch, best and best.epoch, run.record


def states(root):
    return sorted(path.name for path in root.glob("state-*.npz"))


class TestStates:
    def test_the_last_two_are_kept_and_named(self, tmp_path):
        root = write_run(tmp_path / "run")
        assert states(root) == ["state-00002-000000.npz", "state-00003-000000.npz"]
        record = json.loads((root / "run.json").read_text())
        assert [entry["epoch"] for entry in record["checkpoints"]["states"]] == [3, 2]
        assert record["checkpoints"]["states"][0] | {"sha256": ""} == {
            "file": "state-00003-000000.npz",
            "sha256": "",
            "epoch": 3,
            "step": 0,
            "elapsed_s": 3.0,
            "loss": 0.5,
            "accuracy": 0.0,
            "step_s": 0.0,
            "wait_s": 0.0,
            "seconds": 0.0,
        }

    def test_the_time_of_an_epoch_is_saved_with_the_next_state(self, tmp_path):
        root = write_run(tmp_path / "run", epochs=1)
        with open_run(root, resume=True) as run:
            run.time_epoch(12.5)
            write_epoch(run, 2, best=False)
        rows = json.loads((root / "run.json").read_text())["history"]
        assert [row["seconds"] for row in rows] == [12.5, 10.0]

    def test_the_newest_is_resumed_from(self, tmp_path):
        epoch, best, record = resume(write_run(tmp_path / "run"))
        assert (epoch, best, len(record.history)) == (3, 3, 3)

    def test_one_within_an_epoch_is_resumed_from(self, tmp_path):
        root = write_run(tmp_path / "run")
        with open_run(root, resume=True) as run:
            run.read_state()
            run.write_state(arrays(3), epoch=3, step=7, elapsed_s=3.5, sums=EpochSums())
        with open_run(root, resume=True) as run:
            assert run.read_state()[1].step == 7

    @pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
    def test_with_a_damaged_newest_is_the_one_before_and_its_history(self, tmp_path, damage):
        root = write_run(tmp_path / "run")
        path = root / states(root)[-1]
        data = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
        epoch, _, record = resume(root)
        assert (epoch, record.history) == (2, (epoch_record(1), epoch_record(2)))
        assert states(root) == ["state-00002-000000.npz"]

    def test_with_both_damaged_is_refused_and_nothing_is_lost(self, tmp_path):
        root = write_run(tmp_path / "run")
        for name in states(root):
            (root / name).write_bytes(b"damaged")
        with pytest.raises(ResumeError) as refused:
            resume(root)
        assert str(refused.value) == (
            f"{root}/state-00003-000000.npz — damaged or missing — expected the SHA-256 in run.json — "
            "start a new run with another --out"
        )
        assert len(states(root)) == 2
        assert (root / "best.keras").read_bytes() == model(3)

    def test_of_a_run_that_never_had_one_is_the_start(self, tmp_path):
        with open_run(tmp_path / "run", resume=False) as run:
            run.save()
            (run.root / "state-00001-000000.npz").write_bytes(b"written, but not named yet")
        epoch, best, record = resume(tmp_path / "run")
        assert (epoch, best, record.to_dict()) == (None, None, NOTHING)
        assert states(tmp_path / "run") == []

    def test_a_finished_run_keeps_one(self, tmp_path):
        root = write_run(tmp_path / "run")
        with open_run(root, resume=True) as run:
            run.finish({})
        assert states(root) == ["state-00003-000000.npz"]
        assert resume(root)[0] == 3


class TestBest:
    def test_is_recorded_with_what_it_replaces(self, tmp_path):
        root = write_run(tmp_path / "run")
        record = json.loads((root / "run.json").read_text())
        assert [(entry["epoch"], entry["val_mean_iou"]) for entry in record["checkpoints"]["best"]] == [
            (3, 0.3),
            (1, 0.1),
        ]

    @pytest.mark.parametrize("content", [b"damaged", None])
    def test_that_is_lost_is_said_to_be(self, tmp_path, content):
        root = write_run(tmp_path / "run")
        (root / "best.keras").unlink()
        if content is not None:
            (root / "best.keras").write_bytes(content)
        epoch, best, record = resume(root)
        assert (epoch, best, record.best) == (3, None, ())


class CutOff(RunFolder):
    """A run folder whose process dies after so many files."""

    def __init__(self, run, files, monkeypatch):
        super().__init__(run.root, run.record)
        from training.loop import run_folder

        left = iter(range(files))

        def dying(write):
            def written(*arguments):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                write(*arguments)

            return written

        for name in ("write_bytes", "write_json"):
            monkeypatch.setattr(run_folder, name, dying(getattr(run_folder, name)))


@pytest.mark.parametrize("files", range(13))
def test_cut_off_after_any_number_of_files_loses_at_most_the_running_epoch(tmp_path, monkeypatch, files):
    """An epoch writes run.json and best.keras if it is the best, and then its state and run.json again."""
    root = tmp_path / "run"
    finished = 0
    with monkeypatch.context() as patched, open_run(root, resume=False) as run:
        run.save()
        cut = CutOff(run, files, patched)
        try:
            for epoch in (1, 2, 3):
                write_epoch(cut, epoch, best=epoch != 2)
                finished = epoch
        except KeyboardInterrupt:
            pass
    epoch, best, record = resume(root)
    assert finished <= (epoch or 0) <= finished + 1
    assert len(record.history) == (epoch or 0)
    if epoch:
        assert best in (epoch, epoch + 1) or (epoch, best) == (2, 1)


DISK_FULL = """
import resource, sys
from dataclasses import fields
import numpy as np
from pathlib import Path
from edge_runtime.errors import StorageError
from training.loop.run_folder import open_run
from training.loop.run_record import EpochSums
from training.monitor.records import EpochRecord
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with open_run(Path(sys.argv[1]), resume=False) as run:
    run.add_epoch(EpochRecord(**{field.name: 1 for field in fields(EpochRecord)[:-1]}))
    position = {"step": 0, "elapsed_s": 1.0, "sums": EpochSums()}
    run.write_best(b"model of epoch 1" * 100, epoch=1, val_mean_iou=0.1)
    run.write_state({"weights": np.full((3, 4), 1, np.float32), "steps": np.asarray(10)}, epoch=1, **position)
    for write in (
        lambda: run.write_best(b"large" * 10_000, epoch=2, val_mean_iou=0.6),
        lambda: run.write_state({"weights": np.zeros((300, 400))}, epoch=2, **position),
    ):
        try:
            write()
        except StorageError as error:
            print(error.exit_code, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_keeps_what_was_there(tmp_path):
    root = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", DISK_FULL, root], capture_output=True, text=True, check=False)
    remedy = "file too large — raise the file size limit or choose another folder"
    assert child.stdout.splitlines() == [
        f"6 cannot write {root}/best.keras — {remedy}",
        f"6 cannot write {root}/state-00002-000000.npz — {remedy}",
    ], child.stderr
    epoch, best, record = resume(root)
    assert (epoch, best, len(record.history)) == (1, 1, 1)


class TestOpenRun:
    def test_makes_the_folder_and_its_parents(self, tmp_path):
        with open_run(tmp_path / "a" / "run", resume=False) as run:
            assert run.record == RunRecord()
            assert run.record.to_dict() == NOTHING

    @pytest.mark.parametrize("name", ["run.json", "holiday.jpg"])
    def test_refuses_a_folder_that_is_not_empty_without_resume(self, tmp_path, name):
        (tmp_path / name).write_text("{}")
        with pytest.raises(UsageError) as refused, open_run(tmp_path, resume=False):
            pass
        assert str(refused.value) == (
            f"--out {tmp_path} — not empty — pass --resume to go on with it, or choose another folder"
        )
        assert [p.name for p in tmp_path.iterdir()] == [name]

    def test_resume_refuses_a_folder_that_holds_no_run(self, tmp_path):
        (tmp_path / "holiday.jpg").touch()
        with pytest.raises(ResumeError, match=r"^--resume .* — no run\.json inside — expected a run folder"):  # noqa: SIM117
            with open_run(tmp_path, resume=True):
                pass

    @pytest.mark.parametrize("resume", [True, False])
    def test_takes_a_folder_in_which_a_run_was_killed_before_it_began(self, tmp_path, resume):
        for name in ("run.lock", ".probe", ".run.0123abcd.tmp.json"):
            (tmp_path / name).touch()
        with open_run(tmp_path, resume=resume) as run:
            assert run.read_state() is None
        assert [p.name for p in tmp_path.iterdir()] == ["run.lock"]

    def test_removes_what_a_crash_left(self, tmp_path):
        root = write_run(tmp_path / "run", epochs=1)
        (root / ".best.0123abcd.tmp.keras").write_bytes(b"half")
        (root / ".pictures.0123abcd.tmp").mkdir()
        (root / ".mine").touch()
        with open_run(root, resume=True):
            pass
        assert sorted(p.name for p in root.iterdir()) == [
            *(".mine", "best.keras", "run.json", "run.lock", "state-00001-000000.npz")
        ]

    def test_a_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "run").touch()
        with pytest.raises(StorageError, match=r"^--out .*/run — cannot be written \(file exists\) — choose another"):  # noqa: SIM117
            with open_run(tmp_path / "run", resume=False):
                pass

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(StorageError, match=r"cannot be written \(permission denied\)"):  # noqa: SIM117
            with open_run(tmp_path / "run", resume=False):
                pass

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that even root cannot write to")  # noqa: PTH112
    def test_a_folder_that_cannot_be_written(self):
        from pathlib import Path

        with pytest.raises(StorageError, match=r"^--out /proc/run — cannot be written \(.+\) — choose another folder$"):  # noqa: SIM117
            with open_run(Path("/proc/run"), resume=False):
                pass

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "not valid JSON"),
            ("[]", "format_version is None — this edge-unet reads 2"),
            ('{"format_version": 1}', "format_version is 1 — this edge-unet reads 2"),
        ],
    )
    def test_a_record_that_is_not_ours(self, tmp_path, text, message):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ResumeError) as refused, open_run(tmp_path, resume=True):
            pass
        assert message in str(refused.value)
        assert f"{tmp_path}/run.json — " in str(refused.value)


SECOND_RUN = """
import sys
from pathlib import Path
from edge_runtime.errors import EdgeUnetError
from training.loop.run_folder import open_run
try:
    with open_run(Path(sys.argv[1]), resume=True):
        print("opened")
except EdgeUnetError as error:
    print(type(error).__name__, error.exit_code, error)
"""


def second_process(root):
    child = subprocess.run([sys.executable, "-c", SECOND_RUN, root], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="flock")
class TestLock:
    def test_keeps_a_second_process_out_and_names_the_first(self, tmp_path):
        with open_run(tmp_path / "run", resume=False):
            message = second_process(tmp_path / "run")
        assert re.fullmatch(
            rf"StorageError 6 --out {tmp_path}/run — in use by process {os.getpid()} on \S+ — "
            "wait for it or choose another folder",
            message,
        )

    def test_ends_with_its_owner(self, tmp_path):
        with open_run(tmp_path / "run", resume=False) as run:
            run.save()
        assert second_process(tmp_path / "run") == "opened"
        assert "process" in (tmp_path / "run" / "run.lock").read_text()

    def test_of_a_process_that_was_killed_is_free(self, tmp_path):
        killed = SECOND_RUN.replace('print("opened")', "import os; os.kill(os.getpid(), 9)")
        child = subprocess.run([sys.executable, "-c", killed, tmp_path / "run"], check=False)
        assert child.returncode == -9
        assert second_process(tmp_path / "run") == "opened"
