"""Each state that a crash can leave in a run folder, made by hand, and what the next start does with it."""

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from edge_runtime.errors import StorageError, UsageError
from training.errors import ResumeError
from training.run_folder import FORMAT_VERSION, RunFolder, open_run

ARCHIVES = {epoch: f"archive of epoch {epoch}".encode() * 100 for epoch in range(1, 6)}


def entry(epoch, mean_iou=0.5):
    return {"epoch": epoch, "sha256": hashlib.sha256(ARCHIVES[epoch]).hexdigest(), "val_mean_iou": mean_iou}


def history(epochs):
    return [{"epoch": epoch} for epoch in range(1, epochs + 1)]


def folder(root, *, best=None, last=None, record_best=(), record_last=(), epochs=0):
    """Write a run folder: the epochs whose archive is in each file, and those that ``run.json`` names for it."""
    root.mkdir()
    checkpoints = {"best": record_best, "last": record_last}
    record = {
        "format_version": FORMAT_VERSION,
        "history": history(epochs),
        "checkpoints": {name: [entry(e) for e in named] for name, named in checkpoints.items() if named},
        "elapsed_s": 9.0,
    }
    (root / "run.json").write_text(json.dumps(record))
    for name, content in (("best", best), ("last", last)):
        if content is not None:
            (root / f"{name}.keras").write_bytes(ARCHIVES.get(content, b"damaged"))
    return root


def resume(root):
    """Return the file and epoch that a resumed run starts from, and its record."""
    with open_run(root, resume=True) as run:
        point = run.resume_point()
        return (point and (point[0].name, point[1]["epoch"])), run.record


DAMAGED = 0


class TestResumePoint:
    def test_after_a_whole_epoch(self, tmp_path):
        root = folder(tmp_path / "run", best=2, last=3, record_best=[2], record_last=[3, 2], epochs=3)
        point, record = resume(root)
        assert point == ("last.keras", 3)
        assert record["history"] == history(3)
        assert record["checkpoints"] == {"best": [entry(2)], "last": [entry(3)]}

    @pytest.mark.parametrize(
        ("best", "last", "expected"),
        [
            (2, 3, ("last.keras", 3)),  # announced, nothing replaced yet
            (4, 3, ("best.keras", 4)),  # best replaced, last not
            (4, 4, ("last.keras", 4)),  # both replaced
        ],
    )
    def test_in_the_checkpoint_of_the_best_epoch(self, tmp_path, best, last, expected):
        root = folder(tmp_path / "run", best=best, last=last, record_best=[4, 2], record_last=[4, 3], epochs=4)
        point, record = resume(root)
        assert point[1] == expected[1]
        assert (root / point[0]).read_bytes() == ARCHIVES[expected[1]]
        assert record["history"] == history(expected[1])
        assert record["checkpoints"] == {"best": [entry(best)], "last": [entry(last)]}

    @pytest.mark.parametrize(("last", "epoch"), [(3, 3), (4, 4)])
    def test_in_the_checkpoint_of_another_epoch(self, tmp_path, last, epoch):
        root = folder(tmp_path / "run", best=2, last=last, record_best=[2], record_last=[4, 3], epochs=4)
        point, record = resume(root)
        assert point == ("last.keras", epoch)
        assert record["history"] == history(epoch)
        assert record["checkpoints"]["best"] == [entry(2)]

    def test_in_the_first_checkpoint_before_any_file(self, tmp_path):
        point, record = resume(folder(tmp_path / "run", record_best=[1], record_last=[1], epochs=1))
        assert point is None
        assert (record["history"], record["checkpoints"], record["elapsed_s"]) == ([], {}, 0.0)

    def test_in_the_first_checkpoint_after_the_first_file(self, tmp_path):
        point, record = resume(folder(tmp_path / "run", best=1, record_best=[1], record_last=[1], epochs=1))
        assert point == ("best.keras", 1)
        assert record["history"] == history(1)

    def test_with_a_damaged_last_is_the_best(self, tmp_path):
        root = folder(tmp_path / "run", best=2, last=DAMAGED, record_best=[2], record_last=[4, 3], epochs=4)
        point, record = resume(root)
        assert point == ("best.keras", 2)
        assert record["history"] == history(2)
        assert record["checkpoints"] == {"best": [entry(2)]}

    @pytest.mark.parametrize("best", [DAMAGED, None])
    def test_with_a_lost_best_is_the_last_which_becomes_the_best(self, tmp_path, best):
        root = folder(tmp_path / "run", best=best, last=3, record_best=[2], record_last=[3], epochs=3)
        point, record = resume(root)
        assert point[1] == 3
        assert (root / "best.keras").read_bytes() == ARCHIVES[3]
        assert record["checkpoints"] == {"best": [entry(3)], "last": [entry(3)]}

    def test_with_both_damaged_is_refused(self, tmp_path):
        root = folder(tmp_path / "run", best=DAMAGED, last=DAMAGED, record_best=[2], record_last=[3], epochs=3)
        with pytest.raises(ResumeError) as refused:
            resume(root)
        assert str(refused.value) == (
            f"{root}/last.keras — damaged or not of this run — expected the SHA-256 in run.json — "
            "start a new run with another --out"
        )
        assert (root / "last.keras").read_bytes() == b"damaged"

    def test_of_a_run_that_never_had_a_checkpoint_is_the_start(self, tmp_path):
        assert resume(folder(tmp_path / "run"))[0] is None


class TestWriteCheckpoint:
    def test_best_and_last_are_recorded_with_what_they_replace(self, tmp_path):
        with open_run(tmp_path / "run", resume=False) as run:
            assert run.best_mean_iou() == -1
            run.write_checkpoint(ARCHIVES[1], 1, 0.5, best=True)
            assert run.record["checkpoints"] == {"best": [entry(1)], "last": [entry(1)]}
            run.write_checkpoint(ARCHIVES[2], 2, 0.4, best=False)
            assert run.best_mean_iou() == 0.5
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["checkpoints"] == {"best": [entry(1)], "last": [entry(2, 0.4), entry(1)]}
        assert (tmp_path / "run" / "best.keras").read_bytes() == ARCHIVES[1]
        assert (tmp_path / "run" / "last.keras").read_bytes() == ARCHIVES[2]

    @pytest.mark.parametrize("writes", range(6))
    def test_cut_off_after_any_number_of_writes_loses_at_most_that_epoch(self, tmp_path, writes):
        """Epochs 1 (best), 2 and 3 (best) replace 2, 1 and 2 files, each announced before in run.json."""
        root = tmp_path / "run"
        finished = 0
        with open_run(root, resume=False) as run:
            cut = CutOff(run, writes)
            try:
                for epoch, best in ((1, True), (2, False), (3, True)):
                    run.record["history"] = history(epoch)
                    cut.run.write_checkpoint(ARCHIVES[epoch], epoch, epoch / 10, best=best)
                    finished = epoch
            except KeyboardInterrupt:
                pass
        point, record = resume(root)
        resumed = point[1] if point else 0
        assert finished <= resumed <= finished + 1
        assert record["history"] == history(resumed)
        if point:
            assert (root / point[0]).read_bytes() == ARCHIVES[resumed]
            assert (root / "best.keras").read_bytes() == ARCHIVES[record["checkpoints"]["best"][0]["epoch"]]


DISK_FULL = """
import resource, sys
from pathlib import Path
from edge_runtime.errors import StorageError
from training.run_folder import open_run
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
with open_run(Path(sys.argv[1]), resume=False) as run:
    run.record["history"] = [{"epoch": 1}]
    run.write_checkpoint(b"small", 1, 0.5, best=True)
    run.record["history"].append({"epoch": 2})
    try:
        run.write_checkpoint(b"large" * 10_000, 2, 0.6, best=True)
    except StorageError as error:
        print(error.exit_code, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_full_disk_in_a_checkpoint_keeps_the_one_of_before(tmp_path):
    root = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", DISK_FULL, root], capture_output=True, text=True, check=False)
    remedy = "raise the file size limit or choose another folder"
    assert child.stdout == f"6 cannot write {root}/best.keras — file too large — {remedy}\n", child.stderr
    assert (root / "best.keras").read_bytes() == (root / "last.keras").read_bytes() == b"small"
    point, record = resume(root)
    assert point == ("last.keras", 1)
    assert record["history"] == history(1)


class CutOff:
    """A run folder whose process dies after so many writes of a checkpoint file."""

    def __init__(self, run, writes):
        outer = self
        self.left = writes

        class Dying(RunFolder):
            def checkpoint(self, name):
                path = super().checkpoint(name)
                # Called for the digest of the old file too; only the call that follows save() is a write.
                if outer.saved:
                    if outer.left == 0:
                        raise KeyboardInterrupt
                    outer.left -= 1
                return path

            def save(self):
                super().save()
                outer.saved = True

            def write_checkpoint(self, *args, **options):
                outer.saved = False
                super().write_checkpoint(*args, **options)

        self.run = Dying(run.root, run.record)


class TestOpenRun:
    def test_makes_the_folder_and_its_parents(self, tmp_path):
        with open_run(tmp_path / "a" / "run", resume=False) as run:
            assert run.record == {"format_version": 1, "history": [], "checkpoints": {}, "elapsed_s": 0.0}

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
            assert run.resume_point() is None
        assert [p.name for p in tmp_path.iterdir()] == ["run.lock"]

    def test_removes_what_a_crash_left(self, tmp_path):
        root = folder(tmp_path / "run", best=1, last=1, record_best=[1], record_last=[1], epochs=1)
        (root / ".last.0123abcd.tmp.keras").write_bytes(b"half")
        (root / ".pictures.0123abcd.tmp").mkdir()
        (root / ".mine").touch()
        with open_run(root, resume=True):
            pass
        assert sorted(p.name for p in root.iterdir()) == [".mine", "best.keras", "last.keras", "run.json", "run.lock"]

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
            ("[]", "format_version is None — this edge-unet reads 1"),
            ('{"format_version": 2}', "format_version is 2 — this edge-unet reads 1"),
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
from training.run_folder import open_run
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
