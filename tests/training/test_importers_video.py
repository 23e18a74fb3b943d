"""CVAT for video 1.1: tracks are drawn on the frames whose files are there, each on its own."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from datasets import png
from foreign_datasets import CVAT_LABELS, HEIGHT, WIDTH, imported, scene, write

from training.data.check import check_dataset
from training.errors import DataError
from training.importers import import_dataset


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def task(*, last: int | None = None, more: str = "", first: int = 0, name: str = "clip", task_id: int = 7) -> str:
    frames = "" if last is None else f"<start_frame>{first}</start_frame><stop_frame>{last}</stop_frame>"
    return f"<task><id>{task_id}</id><name>{name}</name><mode>interpolation</mode>{frames}{more}</task>"


def xml(tracks: str, meta: str = "") -> str:
    meta = meta or task()
    return f"<annotations><version>1.1</version><meta>{meta}{CVAT_LABELS}</meta>{tracks}</annotations>".replace(
        f"</task>{CVAT_LABELS}", f"{CVAT_LABELS}</task>"
    )


def track(*shapes: str, label: str = "red", more: str = "") -> str:
    return f'<track id="0" label="{label}" source="manual" {more}>{"".join(shapes)}</track>'


def box(frame: int, left: float, right: float | None = None, *, key: int = 1, outside: int = 0, z: int = 0) -> str:
    return (
        f'<box frame="{frame}" keyframe="{key}" outside="{outside}" occluded="0" xtl="{left}" ytl="5" '
        f'xbr="{left + 10 if right is None else right}" ybr="15" z_order="{z}"></box>'
    )


def polygon(frame: int, points: str) -> str:
    return f'<polygon frame="{frame}" keyframe="1" outside="0" occluded="0" points="{points}" z_order="0"/>'


def frames(src: Path, numbers: list[int], folder: str = "images", name: str = "frame_{:06d}.PNG") -> None:
    for number in numbers:
        write(src / folder / name.format(number), png(scene(number)[0]))


def area(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom, class_id in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


def masks(src: Path, tracks: str, meta: str = ""):
    write(src / "annotations.xml", xml(tracks, meta))
    summary = import_dataset("cvat", src, src.parent / "data")
    return summary, {key.rpartition("/")[2]: mask for key, mask in imported(src.parent / "data").items()}


def refusal(src: Path, tracks: str, meta: str = "") -> str:
    write(src / "annotations.xml", xml(tracks, meta))
    with pytest.raises(DataError) as caught:
        import_dataset("cvat", src, src.parent / "data")
    assert not (src.parent / "data").exists()
    return str(caught.value).replace(f"{src}/", "").replace(str(src), "src")


def test_a_task_of_cvat_with_every_frame_listed(src):
    frames(src, [0, 1, 2, 3, 4])
    tracks = track(box(0, 4), box(1, 8, key=0), box(2, 12), box(3, 12, outside=1)) + track(
        box(1, 8, z=1), box(2, 8, outside=1), label="blue"
    )
    summary, found = masks(src, tracks, task(last=4))
    assert summary.images == {"all": 5}
    assert np.array_equal(found["frame_000000"], area((4, 5, 14, 15, 1)))
    assert np.array_equal(found["frame_000001"], area((8, 5, 18, 15, 2)))  # on top by its z_order
    assert np.array_equal(found["frame_000002"], area((12, 5, 22, 15, 1)))
    assert not found["frame_000003"].any()
    assert not found["frame_000004"].any()
    assert summary.notes == ("2 images without any object: their masks are all background",)
    assert not (src.parent / "data" / "groups.csv").exists()  # one video cannot be split by groups
    assert check_dataset(src.parent / "data").ok


def test_kinds_with_an_area_are_drawn_and_the_others_are_counted(src):
    frames(src, [0])
    attributes = 'frame="0" keyframe="1" outside="0" z_order="0"'
    kinds = (
        f'<polygon {attributes} points="2,2;10,2;10,10;2,10"/>',
        f'<mask {attributes} rle="0, 50" left="20" top="2" width="10" height="5"/>',
        f'<ellipse {attributes} cx="50" cy="20" rx="8" ry="8"/>',
        f'<polyline {attributes} points="1,1;9,9"/>',
        f'<points {attributes} points="1,1"/>',
        f'<cuboid {attributes} xtl1="1"/>',
        '<skeleton frame="0" keyframe="1" z_order="0"><points label="joint" outside="0" points="1,1"/></skeleton>',
        box(0, 35),
    )
    summary, found = masks(src, "".join(track(shape) for shape in kinds), task(last=0))
    mask = found["frame_000000"]
    assert np.array_equal(mask[:, :42], area((2, 2, 10, 10, 1), (20, 2, 30, 7, 1), (35, 5, 45, 15, 1))[:, :42])
    assert mask[20, 50] == 1
    for kind in ("polyline", "points", "cuboid", "skeleton"):
        assert any(note.startswith(f"1 {kind} shapes ") and ": not drawn" in note for note in summary.notes), kind


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("images", "frame_{:06d}.jpg"),
        ("images/clip", "frame_{:06d}.PNG"),
        ("", "frame_{:06d}.png"),
        ("frames", "{:05d}.png"),
        ("images", "clip-{}.png"),
    ],
)
def test_frames_are_found_by_the_number_at_the_end_of_their_names(src, folder, name):
    frames(src, [0, 1, 11], folder, name)
    _, found = masks(src, track(box(0, 4), box(1, 8), box(2, 8, outside=1), box(11, 30)), task(last=11))
    assert sorted(mask[5].argmax() for mask in found.values()) == [4, 8, 30]


def test_frames_that_are_not_there_are_named_with_their_shapes(src):
    frames(src, [0, 2])
    summary, found = masks(src, track(box(0, 4), box(1, 5, key=0), box(2, 6), box(3, 7)), task(last=9))
    assert sorted(found) == ["frame_000000", "frame_000002"]
    assert [line.partition(" in ")[0] for line in summary.left_out] == [
        "frame_000001 — image not found (1 shapes",
        "frame_000003 — image not found (1 shapes",
    ]


def test_files_beyond_the_task_are_not_imported_and_counted(src):
    frames(src, [0, 1, 2, 3])
    summary, found = masks(src, track(box(0, 4), box(1, 5)), task(last=1))
    assert len(found) == 2
    assert any(note.startswith("2 images that the XML does not list: not imported") for note in summary.notes)


def test_a_task_of_every_fifth_frame_from_the_tenth_on_keeps_the_numbers_of_the_video(src):
    frames(src, [10, 15, 20])
    meta = task(first=10, last=20, more="<frame_filter>step=5</frame_filter>")
    _, found = masks(src, track(box(10, 4), box(15, 8, key=0), box(20, 12)), meta)
    assert {name: int(mask[5].argmax()) for name, mask in found.items()} == {
        "frame_000010": 4,
        "frame_000015": 8,
        "frame_000020": 12,
    }


def test_with_all_frames_of_the_video_only_those_of_the_task_are_taken(src):
    frames(src, list(range(11)))
    meta = task(last=10, more="<frame_filter>step = 5</frame_filter>")
    _, found = masks(src, track(box(0, 4), box(5, 8, key=0), box(10, 12)), meta)
    assert sorted(found) == ["frame_000000", "frame_000005", "frame_000010"]


class TestKeyFramesOnly:
    def test_boxes_and_polygons_move_linearly_as_cvat_shows_them(self, src):
        frames(src, [0, 1, 2, 3, 4])
        shifted = (polygon(0, "0,20;8,20;8,30;0,30"), polygon(4, "16,20;24,20;24,30;16,30"))
        summary, found = masks(src, track(box(0, 4), box(4, 24)) + track(*shifted, label="blue"), task(last=4))
        for number in range(5):
            left = 4 + 5 * number
            expected = area((left, 5, left + 10, 15, 1), (4 * number, 20, 4 * number + 8, 30, 2))
            assert np.array_equal(found[f"frame_{number:06d}"], expected)
        [note] = summary.notes
        assert note.startswith("6 shapes are moved from key frame to key frame, as CVAT shows them (first: ")
        assert note.endswith("frame_000001.PNG)")

    def test_boxes_turn_the_short_way(self, src):
        frames(src, [0, 1, 2])
        ends = (
            '<box frame="0" outside="0" xtl="20" ytl="10" xbr="40" ybr="14" rotation="350"/>'
            '<box frame="2" outside="0" xtl="20" ytl="10" xbr="40" ybr="14" rotation="10"/>'
        )
        _, found = masks(src, track(ends), task(last=2))
        assert np.array_equal(found["frame_000001"], area((20, 10, 40, 14, 1)))

    def test_an_object_is_gone_from_an_outside_frame_to_the_next_key_frame(self, src):
        frames(src, [0, 1, 2, 3, 4, 5])
        shapes = (box(0, 4), box(2, 8, outside=1), box(4, 20), box(5, 22))
        _, found = masks(src, track(*shapes), task(last=5))
        starts = [int(found[f"frame_{n:06d}"][5].argmax()) for n in range(6)]
        assert starts == [4, 6, 0, 0, 20, 22]

    def test_an_object_stays_after_its_last_key_frame(self, src):
        frames(src, [0, 1, 2, 3])
        _, found = masks(src, track(box(0, 4)), task(last=3))
        assert [int(found[f"frame_{n:06d}"][5].argmax()) for n in range(4)] == [4, 4, 4, 4]

    def test_a_shape_near_the_end_of_the_video_does_not_stay(self, src):
        # CVAT writes no outside frame after a single one there.
        frames(src, [0, 1, 2, 3])
        _, found = masks(src, track(box(2, 4)), task(last=3))
        assert [bool(found[f"frame_{n:06d}"].any()) for n in range(4)] == [False, False, True, False]

    @pytest.mark.parametrize(
        "ends",
        [
            polygon(0, "0,20;8,20;8,30;0,30") + polygon(2, "0,20;8,20;8,30;4,33;0,30"),
            polygon(0, "0,20;8,20;8,30;0,30") + box(2, 4),
            '<mask frame="0" outside="0" rle="0,4" left="0" top="0" width="2" height="2"/>'
            '<mask frame="2" outside="0" rle="0,4" left="5" top="0" width="2" height="2"/>',
        ],
    )
    def test_a_frame_between_shapes_that_cannot_be_matched_is_left_out(self, src, ends):
        frames(src, [0, 1, 2])
        summary, found = masks(src, track(ends), task(last=2))
        assert sorted(found) == ["frame_000000", "frame_000002"]
        [line] = summary.left_out
        assert "frame_000001.PNG — is between frames 0 and 2 of track 0, whose shapes differ" in line


def project(*tasks: str) -> str:
    return f"<project><id>1</id><name>p</name><tasks>{''.join(tasks)}</tasks>{CVAT_LABELS}</project>"


def test_tasks_of_a_project_are_groups_and_their_subsets_splits(src):
    frames(src, [0, 1], "images/Train")
    frames(src, [0], "images/Validation")
    meta = project(
        task(last=1, name="north", task_id=3, more="<subset>Train</subset>"),
        task(last=0, name="south", task_id=4, more="<subset>Validation</subset>"),
    )
    write(
        src / "annotations.xml",
        f"<annotations><meta>{meta}</meta>"
        + track(box(0, 4), box(1, 6), more='task_id="3" subset="Train"')
        + track(box(0, 30), more='task_id="4" subset="Validation"')
        + "</annotations>",
    )
    summary = import_dataset("cvat", src, src.parent / "data")
    assert summary.images == {"train": 2, "val": 1}
    starts = {key: int(mask[5].argmax()) for key, mask in imported(src.parent / "data").items()}
    assert starts == {
        "train/images/images_Train_frame_000000": 4,
        "train/images/frame_000001": 6,
        "val/images/images_Validation_frame_000000": 30,
    }
    with (src.parent / "data" / "groups.csv").open(encoding="utf-8", newline="") as file:
        assert sorted(row["group"] for row in csv.DictReader(file)) == ["north", "north", "south"]


def test_two_tasks_in_one_subset_have_the_same_frames_and_are_refused(src):
    frames(src, [0], "images/default")
    meta = project(
        *(task(last=0, name=name, task_id=i, more="<subset>default</subset>") for i, name in enumerate("ab"))
    )
    own = track(box(0, 4), more='task_id="0"')
    write(src / "annotations.xml", f"<annotations><meta>{meta}</meta>{own}</annotations>")
    with pytest.raises(DataError, match=r"tasks a, b are in subset default.*export each task by itself"):
        import_dataset("cvat", src, src.parent / "data")


def test_a_job_and_a_file_without_meta_are_read(src):
    frames(src, [40, 41])
    job = "<job><id>9</id><start_frame>0</start_frame><stop_frame>1</stop_frame></job>"
    _, found = masks(src, track(box(40, 4), box(41, 6, key=0)), job)
    assert [int(mask[5].argmax()) for _, mask in sorted(found.items())] == [4, 6]


class TestRefusals:
    def test_a_video_beside_the_xml_has_to_become_frames(self, src):
        write(src / "my clip.mp4", b"\0\0\0\x18ftyp")
        message = refusal(src, track(box(0, 4)))
        assert message.startswith("src — the video my clip.mp4, but not its frames — expected images/frame_000000.PNG")
        assert "export with 'Save images', or run: ffmpeg -i 'my clip.mp4' " in message
        assert "-start_number 0 images/frame_%06d.png" in message

    def test_without_frames(self, src):
        assert refusal(src, track(box(0, 4))).startswith(
            "src — no frames of the video — expected images/frame_000000.PNG"
        )

    def test_frames_counted_from_one_would_each_get_the_shapes_of_another(self, src):
        frames(src, [1, 2, 3])
        message = refusal(src, track(box(0, 4), box(1, 6)), task(last=2))
        assert message == "src — files of frames 1 to 3 — expected the numbers in the video, 0 to 2 — rename them"

    @pytest.mark.parametrize("meta", ["<job><id>9</id><start_frame>0</start_frame></job>", task()])
    @pytest.mark.parametrize("last", [(box(2, 8),), (box(2, 8, outside=1),), (box(1, 8, outside=1),), ()])
    def test_frames_counted_from_one_are_refused_where_nothing_states_the_frames(self, src, meta, last):
        frames(src, [1, 2, 3])
        assert refusal(src, track(box(0, 4), *last), meta).startswith(
            "src — files of frames 1 to 3, shapes on frames 0 to "
        )

    def test_files_without_the_first_frame_are_no_shifted_ones(self, src):
        frames(src, [1, 2])
        _, found = masks(src, track(box(0, 4), box(1, 6), box(2, 8)), "<job><id>9</id></job>")
        assert [int(mask[5].argmax()) for _, mask in sorted(found.items())] == [6, 8]

    def test_used_frames_counted_in_a_row_would_get_the_shapes_of_others(self, src):
        frames(src, [0, 1, 2])
        meta = task(last=10, more="<frame_filter>step=5</frame_filter>")
        message = refusal(src, track(box(0, 4), box(5, 6)), meta)
        assert message == (
            "src — files of frames 0 to 2 — expected the numbers in the video, 0 to 10 in steps of 5 — rename them"
        )

    def test_images_with_names_of_their_own_cannot_be_told_by_number(self, src):
        frames(src, [0, 1], name="hall{}.png")
        message = refusal(src, track(box(0, 4)), task(last=1).replace("interpolation", "annotation"))
        assert "tracks on images such as" in message
        assert message.endswith("expected names — export the task as 'CVAT for images 1.1'")

    def test_two_files_of_one_frame(self, src):
        frames(src, [0], "images/a")
        frames(src, [0], "images/b")
        assert "are both frame 0 — expected one file per frame" in refusal(src, track(box(0, 4)))

    def test_a_track_of_an_unknown_task(self, src):
        frames(src, [0], "images/a")
        tasks = (task(last=0, task_id=i, more=f"<subset>{i}</subset>") for i in (1, 2))
        assert "a track of task '3' — expected the id of a task" in refusal(
            src, track(box(0, 4), more='task_id="3"'), project(*tasks)
        )

    @pytest.mark.parametrize(
        "shape",
        ['<box outside="0"/>', '<box frame="x"/>', '<polygon frame="0" points="a,b"/><polygon frame="2" points=""/>'],
    )
    def test_numbers_that_are_none(self, src, shape):
        frames(src, [0, 1, 2])
        assert "annotations.xml: " in refusal(src, track(shape), task(last=2))
