import dataclasses
import json
import logging
import platform
import shutil
import sys
import warnings
from pathlib import Path

import onnxruntime as ort
import pytest
from colors import color_contract, color_scene, color_truth, write_color_package

from edge_runtime import Segmenter, SessionOptions, cli
from edge_runtime.errors import ModelError, StorageError, UsageError
from edge_runtime.image import encode_png
from edge_runtime.model.device_profile import (
    DeviceProfile,
    Machine,
    check_writable,
    cpu_model,
    find_profile,
    models_of,
    profile_path,
    usable_profile,
    write_profile,
)
from edge_runtime.model.package import MANIFEST, Package
from edge_runtime.resources import usable_cores


@pytest.fixture
def two_variants(tmp_path) -> Path:
    """A package whose "int8" variant is a copy of the other."""
    root = write_color_package(tmp_path / "two", color_contract())
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["variants"]["int8"] = {**manifest["variants"]["fp32"], "file": "model.int8.onnx"}
    manifest["golden"][0]["masks"]["int8"] = manifest["golden"][0]["masks"]["fp32"]
    shutil.copy(root / "model.onnx", root / "model.int8.onnx")
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root


def profile_for(root: Path, **changes: object) -> DeviceProfile:
    values = {
        "models": models_of(Package.open(root)),
        "machine": Machine.here(),
        "variant": "fp32",
        "options": SessionOptions(threads=1, spinning=True),
        "goal_ms": 33.0,
        "p50_ms": 1.5,
        "p95_ms": 2.0,
        "cpu_ms": 3.0,
        "date": "2026-01-02T03:04:05+00:00",
    }
    return DeviceProfile(**values | changes)


def damaged(root: Path, change: object) -> None:
    """Write a profile after ``change`` has been at its JSON object."""
    value = profile_for(root).to_dict()
    change(value)
    profile_path(root).write_text(json.dumps(value))


def test_a_profile_reads_as_it_was_written(color_package):
    profile = profile_for(color_package)
    path = write_profile(profile, color_package)
    assert path == color_package.with_name("colors.device.json")
    assert find_profile(Package.open(color_package)) == profile
    assert sorted(p.name for p in color_package.parent.iterdir()) == ["colors", "colors.device.json"]


def test_the_file_says_everything_by_name(color_package):
    value = json.loads(write_profile(profile_for(color_package), color_package).read_text())
    assert value.pop("models").keys() == {"fp32"}
    assert value.pop("machine") == {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "onnxruntime": ort.__version__,
    }
    assert value == {
        "format_version": 1,
        "variant": "fp32",
        "options": {"threads": 1, "spinning": True, "provider": "CPUExecutionProvider"},
        "goal_ms": 33.0,
        "p50_ms": 1.5,
        "p95_ms": 2.0,
        "cpu_ms": 3.0,
        "date": "2026-01-02T03:04:05+00:00",
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (SessionOptions(threads=2), "int8, 2 threads, no spinning"),
        (SessionOptions(threads=1, spinning=True), "int8, 1 thread, spinning"),
        (SessionOptions(provider="XnnpackExecutionProvider"), "int8, all cores, no spinning, XNNPACK"),
    ],
)
def test_a_profile_is_said_in_a_few_words(color_package, options, text):
    assert profile_for(color_package, variant="int8", options=options).describe() == text


def test_the_profile_lies_beside_the_package_however_it_is_written(tmp_path, monkeypatch):
    assert profile_path(Path("models/person")) == Path("models/person.device.json")
    assert profile_path(Path("models/v1.2/")) == Path("models/v1.2.device.json")
    (tmp_path / "person").mkdir()
    monkeypatch.chdir(tmp_path / "person")
    assert profile_path(Path()) == tmp_path / "person.device.json"


class TestLoading:
    def test_a_profile_that_fits_decides(self, two_variants, caplog):
        profile = profile_for(two_variants)
        write_profile(profile, two_variants)
        segmenter = Segmenter.load(two_variants)
        assert (segmenter.variant, segmenter.threads, segmenter.profile) == ("fp32", 1, profile)
        assert caplog.records == []

    def test_it_works_as_without_one(self, two_variants):
        expected = Segmenter.load(two_variants)(color_scene()).mask
        write_profile(profile_for(two_variants), two_variants)
        assert (Segmenter.load(two_variants)(color_scene()).mask == expected).all()

    def test_without_one_nothing_changes_and_nothing_is_said(self, two_variants, caplog):
        segmenter = Segmenter.load(two_variants)
        assert (segmenter.variant, segmenter.threads, segmenter.profile) == ("int8", usable_cores(), None)
        assert caplog.records == []

    def test_what_is_asked_for_wins(self, two_variants):
        write_profile(profile_for(two_variants), two_variants)
        segmenter = Segmenter.load(two_variants, variant="int8")
        assert (segmenter.variant, segmenter.threads, segmenter.profile) == ("int8", usable_cores(), None)
        segmenter = Segmenter.load(two_variants, options=SessionOptions(threads=3))
        assert (segmenter.variant, segmenter.threads, segmenter.profile) == ("int8", 3, None)

    def test_a_bare_file_has_none(self, two_variants):
        write_profile(profile_for(two_variants), two_variants)
        assert Segmenter.load(two_variants / "model.onnx").profile is None


class TestCommands:
    """What ``eval`` measures is what ``run`` runs."""

    @pytest.fixture
    def loaded(self, monkeypatch):
        """Collect the variant and the number of threads of each segmenter that is loaded."""
        found = []
        original = Segmenter.load.__func__

        def load(cls, *arguments, **options):
            segmenter = original(cls, *arguments, **options)
            found.append((segmenter.variant, segmenter.threads))
            return segmenter

        monkeypatch.setattr(Segmenter, "load", classmethod(load))
        return found

    @pytest.fixture
    def data(self, tmp_path):
        image = color_scene()
        for kind, pixels in {"images": image, "masks": color_truth(image)}.items():
            (tmp_path / "data" / kind).mkdir(parents=True)
            (tmp_path / "data" / kind / "a.png").write_bytes(encode_png(pixels, "a"))
        return tmp_path / "data"

    def both(self, capsys, package, data, *options):
        """Evaluate and run a package; return the variant that ``eval --json`` names and stderr's lines of a profile."""
        assert cli.main(["eval", str(package), str(data), "--json", *options]) == 0
        evaluated = capsys.readouterr()
        assert cli.main(["run", str(package), "--source", str(data / "images"), *options]) == 0
        lines = [
            [line for line in err.splitlines() if "profile" in line] for err in (evaluated.err, capsys.readouterr().err)
        ]
        return json.loads(evaluated.out)["variant"], *lines

    def test_follow_the_profile_and_say_so_in_the_same_words(self, capsys, two_variants, data, loaded):
        path = write_profile(profile_for(two_variants), two_variants)
        variant, by_eval, by_run = self.both(capsys, two_variants, data)
        assert loaded == [("fp32", 1), ("fp32", 1)]
        assert variant == "fp32"
        assert by_eval == by_run == [f"device profile {path}: fp32, 1 thread, spinning"]

    @pytest.mark.parametrize(
        "options", [("--variant", "int8"), ("--threads", "3"), ("--variant", "int8", "--threads", "3")]
    )
    def test_do_what_they_are_told_instead(self, capsys, two_variants, data, loaded, options):
        write_profile(profile_for(two_variants), two_variants)
        variant, by_eval, by_run = self.both(capsys, two_variants, data, *options)
        assert variant == "int8"
        assert loaded[0] == loaded[1] == ("int8", 3 if "--threads" in options else usable_cores())
        assert by_eval == by_run == []

    def test_say_nothing_where_there_is_none(self, capsys, two_variants, data, loaded):
        variant, by_eval, by_run = self.both(capsys, two_variants, data)
        assert (variant, by_eval, by_run) == ("int8", [], [])
        assert loaded == [("int8", usable_cores())] * 2


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("cpu", "Z80", "was measured with cpu Z80, and here it is"),
            ("architecture", "mips", "was measured with architecture mips"),
            ("cores", 999, "was measured with cores 999"),
            ("onnxruntime", "1.0", f"was measured with onnxruntime 1.0, and here it is {ort.__version__}"),
        ],
    )
    def test_another_machine(self, color_package, caplog, field, value, message):
        machine = dataclasses.replace(Machine.here(), **{field: value})
        write_profile(profile_for(color_package, machine=machine), color_package)
        self.is_ignored(color_package, caplog, message)

    def test_another_model(self, color_package, caplog):
        write_profile(profile_for(color_package, models={"fp32": "0" * 64}), color_package)
        self.is_ignored(color_package, caplog, "was measured with another model")

    def test_a_package_that_gained_a_variant(self, two_variants, caplog):
        models = {"fp32": models_of(Package.open(two_variants))["fp32"]}
        write_profile(profile_for(two_variants, models=models), two_variants)
        self.is_ignored(two_variants, caplog, "was measured with another model")

    def test_a_variant_that_is_not_there(self, color_package, caplog):
        write_profile(profile_for(color_package, variant="int4"), color_package)
        self.is_ignored(color_package, caplog, "was measured with another model")

    def test_an_execution_provider_that_is_not_there(self, color_package, caplog):
        options = SessionOptions(provider="NoneExecutionProvider")
        write_profile(profile_for(color_package, options=options), color_package)
        self.is_ignored(color_package, caplog, "is for None, which this onnxruntime does not have")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: v.pop("goal_ms"), "key 'goal_ms' is missing"),
            (lambda v: v.update(more=1), "unknown key 'more'"),
            (lambda v: v.update(variant=1), "key 'variant' is int"),
            (lambda v: v.update(format_version=2), "format_version is 2"),
            (lambda v: v["options"].update(threads=-1), "threads is -1"),
            (lambda v: v["options"].update(spinning=1), "key 'spinning' is int"),
            (lambda v: v["machine"].pop("cpu"), "machine: key 'cpu' is missing"),
            (lambda v: v["machine"].update(ram=1), "machine: unknown key 'ram'"),
            (lambda v: v["models"].update(fp32=None), "models.fp32 is NoneType"),
        ],
    )
    def test_a_file_that_says_something_else(self, color_package, caplog, change, message):
        damaged(color_package, change)
        self.is_ignored(color_package, caplog, message)

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": NaN}'])
    def test_a_file_that_is_no_profile(self, color_package, caplog, data):
        profile_path(color_package).write_bytes(data)
        self.is_ignored(color_package, caplog, "the device profile is damaged")

    def test_a_folder_of_its_name(self, color_package, caplog):
        profile_path(color_package).mkdir()
        self.is_ignored(color_package, caplog, "cannot read")

    @staticmethod
    def is_ignored(root, caplog, message):
        """Loading goes on with the defaults, and one line says why and what to do."""
        with pytest.raises(ModelError, match=r"— run `edge-unet tune .+` again$"):
            find_profile(Package.open(root))
        with caplog.at_level(logging.INFO):
            assert usable_profile(Package.open(root)) is None
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("edge_runtime", "WARNING")
        text = record.getMessage()
        assert text.startswith("device profile ignored: ")
        assert message in text
        assert text.endswith(f"— run `edge-unet tune {root}` again")
        assert "export" not in text
        assert "\n" not in text
        assert Segmenter.load(root).profile is None


class TestWriting:
    @pytest.mark.skipif(sys.platform != "linux", reason="proc refuses new files, even root's")
    def test_an_unwritable_folder_is_a_storage_error(self, color_package):
        with pytest.raises(StorageError, match=r"cannot write /proc/colors\.device\.json — .+ — check the path"):
            check_writable(Path("/proc/colors"))
        with pytest.raises(StorageError, match=r"cannot write /proc/colors\.device\.json — "):
            write_profile(profile_for(color_package), Path("/proc/colors"))

    def test_a_writable_folder_is_left_as_it_was(self, color_package):
        before = sorted(color_package.parent.iterdir())
        check_writable(color_package)
        assert sorted(color_package.parent.iterdir()) == before


class TestTheProcessor:
    def test_x86_names_it(self, tmp_path):
        self.write(
            tmp_path, cpuinfo="processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: x\n"
        )
        assert cpu_model(tmp_path) == "Some CPU @ 2 GHz"

    def test_arm_names_the_board_and_the_core(self, tmp_path):
        cpuinfo = "processor\t: 0\nCPU part\t: 0xd08\nprocessor\t: 1\nCPU part\t: 0xd08\n"
        self.write(tmp_path, cpuinfo=cpuinfo, board="Raspberry Pi 4 Model B Rev 1.4\0")
        assert cpu_model(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4, CPU part 0xd08"

    def test_big_and_little_cores_are_both_named(self, tmp_path):
        self.write(tmp_path, cpuinfo="CPU part\t: 0xd0b\nCPU part\t: 0xd05\nCPU part\t: 0xd05\n")
        assert cpu_model(tmp_path) == "CPU part 0xd05 0xd0b"

    def test_without_proc_there_is_a_name_all_the_same(self, tmp_path):
        assert cpu_model(tmp_path)

    @staticmethod
    def write(root, *, cpuinfo, board=None):
        (root / "proc/device-tree").mkdir(parents=True)
        (root / "proc/cpuinfo").write_text(cpuinfo)
        if board is not None:
            (root / "proc/device-tree/model").write_text(board)


def test_a_provider_that_is_not_there_is_refused_by_name(color_package):
    with pytest.raises(UsageError, match=r"execution provider is XExecutionProvider — this onnxruntime has .*CPU"):
        Segmenter.load(color_package, options=SessionOptions(provider="XExecutionProvider"))


def test_a_provider_that_does_not_start_is_refused_instead_of_replaced(color_package, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["XExecutionProvider"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime's own
        with pytest.raises(ModelError, match="XExecutionProvider does not start on this machine"):
            Segmenter.load(color_package, options=SessionOptions(provider="XExecutionProvider"))
