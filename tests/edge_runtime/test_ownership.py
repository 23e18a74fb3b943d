"""A run writes over nothing that it reads, and over nothing that no earlier run has written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from colors import color_scene

from edge_runtime import InputError, ModelError, OutputOptions, RunConfig, StorageError, UsageError, execute
from edge_runtime.sinks import MaskFiles
from edge_runtime.sources.frame import decoded_frame
from edge_runtime.storage import in_use


@pytest.fixture
def photos(tmp_path):
    """A folder with two pictures."""
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.png"), color_scene())
    return folder


@pytest.fixture
def run(color_package):
    """Run a source into outputs; an output beside ``save`` is a field of the configuration."""

    def run(
        source: object,
        *,
        save: Path | None = None,
        raw: Path | None = None,
        limit_mb: float | None = None,
        **more: object,
    ) -> dict[str, object]:
        output = OutputOptions(save=save, raw=None if raw is None else str(raw), limit_mb=limit_mb)
        source = source if isinstance(source, tuple) else str(source)
        return execute(RunConfig(package=color_package, source=source, output=output, threads=1, **more))  # type: ignore[arg-type]

    return run


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        writer.write(color_scene())
    writer.release()
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestFolder:
    @pytest.mark.parametrize("name", ["masks/a.png", "masks/notes.txt", "overlays/x.jpg", "overlay.mp4"])
    def test_what_no_run_has_written_stays(self, photos, run, name):
        own = photos.parent / name
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(b"made by hand")
        before = files(photos.parent)
        with pytest.raises(UsageError, match=rf"--save .* — .*{name} is there, and no run of ours has written it"):
            run(photos, save=photos.parent)
        assert files(photos.parent) == before

    @pytest.mark.parametrize("name", [".p.png", ".p/q.png"])
    def test_nor_is_a_hidden_picture_replaced(self, photos, run, name):
        own = photos.parent / "masks" / name
        own.parent.mkdir(parents=True)
        own.write_bytes(b"made by hand")
        with pytest.raises(UsageError, match=r"masks/\.p.* is there, and no run of ours has written it"):
            run(photos, save=photos.parent)
        assert own.read_bytes() == b"made by hand"

    @pytest.mark.parametrize("name", [".DS_Store", "._a.png", ".a.0123abcd.tmp.png"])
    def test_hidden_files_of_the_system_and_of_a_killed_run_are_no_matter(self, photos, run, name):
        (photos.parent / "masks").mkdir()
        (photos.parent / "masks" / name).write_bytes(b"x")
        assert run(photos, save=photos.parent)["processed"] == 2

    def test_it_is_replaced_by_those_who_mean_it(self, photos, run):
        (photos.parent / "masks").mkdir()
        (photos.parent / "masks" / "a.png").write_bytes(b"made by hand")
        run(photos, save=photos.parent, overwrite=True)
        assert cv2.imread(str(photos.parent / "masks" / "a.png"), cv2.IMREAD_UNCHANGED).shape == (48, 64)

    def test_results_of_an_earlier_run_are_replaced(self, photos, run, tmp_path):
        run(photos, save=tmp_path / "out")
        (tmp_path / "out" / "masks" / "a.png").write_bytes(b"")
        run(photos, save=tmp_path / "out")
        assert (tmp_path / "out" / "masks" / "a.png").stat().st_size > 0

    def test_other_files_beside_the_results_are_no_matter(self, photos, run):
        (photos.parent / "notes.txt").write_text("mine")
        run(photos, save=photos.parent)
        assert (photos.parent / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_video_is_not_replaced_by_its_overlay(self, run, tmp_path, overwrite):
        source = video(tmp_path / "out" / "overlay.mp4")
        before = files(tmp_path)
        with pytest.raises(UsageError, match="is read, and would be written over"):
            run(source, save=tmp_path / "out", overwrite=overwrite)
        assert files(tmp_path) == before

    @pytest.mark.parametrize("read", ["source", "background"])
    def test_a_piece_of_a_service_that_is_read_is_not_deleted_by_a_limit(self, run, tmp_path, read):
        run(video(tmp_path / "v.mp4"), save=tmp_path / "out")
        piece = video(tmp_path / "out" / "overlay-20260101-000000.mp4")
        before = files(tmp_path)
        source = piece if read == "source" else tmp_path / "v.mp4"
        effect = None if read == "source" else f"replace={piece}"
        with pytest.raises(UsageError, match=r"overlay-20260101-000000\.mp4 is read, and .* --keep-mb"):
            run(source, save=tmp_path / "out", effect=effect, limit_mb=0.001)
        assert files(tmp_path) == before
        run(source, save=tmp_path / "out", effect=effect)
        assert piece.exists(), "without a limit, nothing is deleted"

    @pytest.mark.parametrize("source", ["masks", "overlays/*.png", "link"])
    def test_pictures_are_not_replaced_by_their_results(self, photos, run, tmp_path, source):
        out = tmp_path / "out"
        run(photos, save=out, effect="mask")
        (out / "link").symlink_to(out / "masks")
        before = files(out)
        with pytest.raises(UsageError, match="is read, and would be written over"):
            run(out / source, save=out)
        assert files(out) == before

    @pytest.mark.parametrize("below", ["", "results"])
    def test_a_package_stays_as_it_is(self, photos, run, color_package, below):
        before = files(color_package)
        with pytest.raises(UsageError, match="lies in the model package"):
            run(photos, save=color_package / below)
        assert files(color_package) == before

    def test_a_pattern_of_all_folders_leaves_results_out(self, photos, run):
        pattern = photos.parent / "**" / "*.png"
        for _ in range(2):
            summary = run(pattern, save=photos.parent / "out", effect="mask")
            assert summary["captured"] == 2


class TestFiles:
    @pytest.mark.parametrize("option", ["json", "raw", "status"])
    def test_what_no_run_has_written_stays(self, photos, run, tmp_path, option):
        own = tmp_path / "own.json"
        own.write_text('{"mine": 1}\n')
        with pytest.raises(
            UsageError, match=rf"--{option} .*own\.json — is there, and no command of ours has written it"
        ):
            run(photos, **{option: own if option == "raw" else str(own)})
        assert own.read_text() == '{"mine": 1}\n'

    @pytest.mark.parametrize("option", ["json", "raw", "status"])
    def test_it_is_replaced_by_those_who_mean_it(self, photos, run, tmp_path, option):
        own = tmp_path / "own.json"
        own.write_text('{"mine": 1}\n')
        run(photos, overwrite=True, **{option: own if option == "raw" else str(own)})
        assert b"mine" not in own.read_bytes()

    @pytest.mark.parametrize("option", ["json", "status"])
    def test_those_of_an_earlier_run_are_replaced(self, photos, run, tmp_path, option):
        for _ in range(2):
            run(photos, **{option: str(tmp_path / "own.json")})
        text = (tmp_path / "own.json").read_text()
        assert json.loads(text.splitlines()[0] if option == "json" else text)

    def test_a_picture_is_not_replaced_by_its_json_lines(self, photos, run):
        before = files(photos)
        with pytest.raises(UsageError, match="is read, and would be written over"):
            run(photos, json=str(photos / "a.png"), overwrite=True)
        assert files(photos) == before

    def test_nor_is_the_background(self, photos, run, tmp_path):
        cv2.imwrite(str(tmp_path / "beach.png"), np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(UsageError, match="is read, and would be written over"):
            run(photos, raw=tmp_path / "beach.png", effect=f"replace={tmp_path / 'beach.png'}", overwrite=True)

    def test_nor_is_a_file_of_the_package(self, photos, run, color_package):
        before = files(color_package)
        with pytest.raises(UsageError, match="lies in the model package"):
            run(photos, json=str(color_package / "manifest.json"), overwrite=True)
        assert files(color_package) == before

    def test_nor_is_a_bare_model(self, photos, run, color_package, tmp_path):
        shutil.copy(color_package / "model.onnx", tmp_path / "bare.onnx")
        with pytest.raises(UsageError, match="is read, and would be written over"):
            execute(RunConfig(package=tmp_path / "bare.onnx", source=photos, json=str(tmp_path / "bare.onnx")))


class TestWhatLiesAround:
    def test_names_with_parents_stay_inside_the_folder(self, photos, run, tmp_path, monkeypatch):
        (photos.parent / "script").mkdir()
        shutil.copytree(photos, photos.parent / "script" / "more")
        before = files(photos.parent)
        monkeypatch.chdir(photos.parent / "script")
        run(("../photos", "more"), save=tmp_path / "out")
        assert files(photos.parent) == before
        assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out" / "masks").rglob("*.png")) == [
            "masks/photos/a.png", "masks/photos/b.png", "masks/script/more/a.png", "masks/script/more/b.png",
        ]  # fmt: skip

    def test_a_pattern_of_all_folders_leaves_nested_results_out(self, photos, run):
        shutil.copytree(photos, photos.parent / "others")
        for _ in range(2):
            assert run(photos.parent / "**" / "*.png", save=photos.parent / "out", effect="mask")["captured"] == 4

    @pytest.mark.parametrize("pair", [("json", "status"), ("json", "raw"), ("status", "raw")])
    def test_two_outputs_are_not_one_file(self, photos, run, tmp_path, pair):
        same = {name: tmp_path / "same" if name == "raw" else str(tmp_path / "x" / ".." / "same") for name in pair}
        (tmp_path / "x").mkdir()
        with pytest.raises(UsageError, match=rf"--{pair[0]} and --{pair[1]}|--{pair[1]} and --{pair[0]}"):
            run(photos, **same)
        assert not (tmp_path / "same").exists()

    @pytest.mark.parametrize("option", ["save", "json", "raw", "status"])
    @pytest.mark.parametrize("below", ["", "x"])
    def test_a_link_to_itself_is_one_line(self, photos, run, tmp_path, option, below):
        (tmp_path / "o").symlink_to("o")
        target = tmp_path / "o" / below
        with pytest.raises(StorageError, match=r"^cannot \w+ .*/o"):
            run(photos, **{option: target if option in ("save", "raw") else str(target)})

    def test_another_manifest_is_no_package(self, photos, run, tmp_path):
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "manifest.json").write_text('{"manifest_version": 3}')
        run(photos, save=tmp_path / "app" / "out", json=str(tmp_path / "app" / "r.jsonl"))

    @pytest.mark.parametrize("option", ["save", "json"])
    def test_deep_inside_a_package_is_inside(self, photos, run, color_package, option):
        (color_package / "golden" / "more").mkdir(parents=True)
        before = files(color_package)
        target = color_package / "golden" / "more" / "x"
        with pytest.raises(UsageError, match="lies in the model package"):
            run(photos, **{option: target if option == "save" else str(target)})
        assert files(color_package) == before


def test_a_frame_s_name_does_not_lead_out_of_the_folder(tmp_path):
    frame = replace(decoded_frame(0, np.zeros((4, 4, 3), np.uint8), "x", 0.0), name="../escaped")
    with pytest.raises(InputError, match="leads out of"):
        MaskFiles(tmp_path / "masks").write(frame, np.zeros((4, 4), np.uint8))
    assert not (tmp_path / "escaped.png").exists()


class TestOtherWays:
    def test_a_piece_of_a_service_that_a_limit_would_delete_is_somebody_elses(self, tmp_path, run):
        own = video(tmp_path / "out" / "overlay-20250101-120000.mp4")
        with pytest.raises(UsageError, match=r"overlay-20250101-120000\.mp4 is there, and no run of ours"):
            run(video(tmp_path / "v.mp4"), save=tmp_path / "out")
        assert own.exists()

    def test_a_link_to_a_result_is_no_source(self, photos, run, tmp_path):
        run(photos, save=tmp_path / "out")
        result = tmp_path / "out" / "overlays" / "a.jpg"
        before = result.read_bytes()
        linked = tmp_path / "linked"
        linked.mkdir()
        (linked / "a.jpg").symlink_to(result)
        with pytest.raises(UsageError, match=r"linked/a\.jpg is read, and would be written over"):
            run(linked, save=tmp_path / "out")
        assert result.read_bytes() == before

    def test_annotations_by_hand_are_no_lines_of_ours(self, photos, run, tmp_path):
        own = tmp_path / "own.jsonl"
        own.write_text('{"frame": 0, "label": "car"}\n')
        with pytest.raises(UsageError, match=r"own\.jsonl — is there, and no command of ours"):
            run(photos, json=str(own))
        assert "car" in own.read_text()

    def test_what_a_file_of_the_package_leads_to_is_read(self, photos, run, color_package, tmp_path):
        blob = tmp_path / "blob"
        (color_package / "model.onnx").replace(blob)
        (color_package / "model.onnx").symlink_to(blob)
        before = blob.read_bytes()
        with pytest.raises(UsageError, match="blob — is read, and would be written over"):
            run(photos, raw=blob, overwrite=True)
        assert blob.read_bytes() == before

    def test_two_runs_do_not_share_their_outputs(self, photos, run, tmp_path):
        run(photos, save=tmp_path / "out", json=str(tmp_path / "r.jsonl"))
        before = (tmp_path / "r.jsonl").read_bytes()
        with (
            in_use(tmp_path / "out" / ".edge-unet-results"),
            pytest.raises(StorageError, match="another run is writing"),
        ):
            run(photos, save=tmp_path / "out")
        with (
            in_use(tmp_path / "out" / ".edge-unet-results"),
            pytest.raises(StorageError, match="another run is writing"),
        ):
            run(photos, save=tmp_path / "out", json=str(tmp_path / "r.jsonl"))
        assert (tmp_path / "r.jsonl").read_bytes() == before
        with in_use(tmp_path / "r.jsonl"), pytest.raises(StorageError, match=r"r\.jsonl — another run is writing"):
            run(photos, json=str(tmp_path / "r.jsonl"))
        assert (tmp_path / "r.jsonl").read_bytes() == before

    def test_lines_stay_when_the_source_of_the_next_run_cannot_be_opened(self, photos, run, tmp_path):
        run(photos, json=str(tmp_path / "r.jsonl"))
        before = (tmp_path / "r.jsonl").read_bytes()
        (tmp_path / "x.mp4").write_bytes(b"x" * 999)
        with pytest.raises(InputError, match="cannot be opened as a video"):
            run(tmp_path / "x.mp4", json=str(tmp_path / "r.jsonl"))
        assert (tmp_path / "r.jsonl").read_bytes() == before

    def test_a_link_in_place_of_a_mask_is_replaced_and_not_what_it_leads_to(self, photos, run, tmp_path):
        run(photos, save=tmp_path / "out")
        corrected = tmp_path / "corrected.png"
        corrected.write_bytes(b"by hand")
        mask = tmp_path / "out" / "masks" / "a.png"
        mask.unlink()
        mask.symlink_to(corrected)
        run(photos, save=tmp_path / "out")
        assert (corrected.read_bytes(), mask.is_symlink()) == (b"by hand", False)

    def test_a_folder_that_is_no_package_is_not_searched(self, photos, run, tmp_path, monkeypatch):
        monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("searched"))
        with pytest.raises(ModelError, match="a folder without manifest"):
            execute(RunConfig(package=tmp_path, source=str(photos)))
