"""The score of the accuracy benchmark: networks whose answers are known, whatever form their inputs and outputs have."""

import json

import accuracy_report
import bench_accuracy
import cv2
import numpy as np
import onnx
import pytest
from accuracy_score import PADDING, Network, score
from onnx import TensorProto, helper
from tasks import dataset_folder
from tasks.registry import TASKS
from trainers import given

CLASSES = ["background", "red", "blue"]
COLORS_BGR = np.array([(0, 255, 0), (0, 0, 255), (255, 0, 0)], np.uint8)
SIZE = (32, 64)


def halves(height, width):
    """Return a green picture whose left quarter is red and whose right quarter is blue, and its class ids."""
    ids = np.zeros((height, width), np.uint8)
    ids[:, : width // 4], ids[:, -width // 4 :] = 1, 2
    return COLORS_BGR[ids], ids


def dataset(folder, sizes=((32, 64), (64, 128)), ignore_id=None):
    for index, (height, width) in enumerate(sizes):
        image, ids = halves(height, width)
        dataset_folder.write_pair(folder / "test", f"{index}.png", image, ids)
    dataset_folder.write_classes(folder, CLASSES, ignore_id)
    return folder


def network(folder, *, color="bgr", layout="nhwc", divisor=1, integers=False, seen="grb", offsets=(0, 0, 0), **card):
    """Write a network whose logits are these channels of its input, plus offsets; class ids come before them."""
    axis = -1 if layout == "nhwc" else 1
    shape, logits_shape = [1, *SIZE], [1, *SIZE]
    for numbers, count in ((shape, 3), (logits_shape, len(seen))):
        numbers.insert(len(numbers) if axis == -1 else 1, count)
    offset_shape = [len(seen)] if layout == "nhwc" else [len(seen), 1, 1]
    constants = [
        helper.make_tensor("order", TensorProto.INT64, [len(seen)], [color.index(channel) for channel in seen]),
        helper.make_tensor("offset", TensorProto.FLOAT, offset_shape, offsets),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["numbers", "order"], ["chosen"], axis=axis),
        helper.make_node("Add", ["chosen", "offset"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits_shape)]
    if integers:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["ids"], axis=axis, keepdims=0))
        outputs.insert(0, helper.make_tensor_value_info("ids", TensorProto.INT64, [1, *SIZE]))
    kind = TensorProto.UINT8 if divisor == 1 else TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("image", kind, shape)], outputs, constants)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    plain = {"model": "model.onnx", "output": None, "size": SIZE, "color": color, "layout": layout, "divisor": divisor}
    given.write_card(folder, **{**plain, "fit": "stretch", "parameters": 3, "epochs": 1, "train_s": 2.0, **card})
    return folder


FORMS = {
    "bytes in BGR": {},
    "numbers in RGB, channels first": {"color": "rgb", "layout": "nchw", "divisor": 255},
    "class ids": {"integers": True},
    "class ids of a letterbox": {
        "integers": True,
        "fit": "letterbox",
        "color": "rgb",
        "layout": "nchw",
        "divisor": 255,
    },
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_network_that_is_right_scores_one_at_each_size_of_the_masks(form, tmp_path, monkeypatch):
    monkeypatch.setattr("accuracy_score.TIMED_S", 1e-9)
    found = score(network(tmp_path / "net", **form), dataset(tmp_path / "data"), threads=1)
    assert (found["mean_iou"], found["foreground_iou"], found["boundary_f"]) == (1, 1, 1)
    assert found["input_size"] == list(SIZE)
    assert (found["parameters"], found["epochs"], found["train_s"]) == (3, 1, 2.0)


def test_a_network_that_sees_only_background_scores_its_share_and_no_foreground(tmp_path, monkeypatch):
    monkeypatch.setattr("accuracy_score.TIMED_S", 1e-9)
    found = score(network(tmp_path / "net", offsets=(1000, 0, 0)), dataset(tmp_path / "data"), threads=1)
    assert found["per_class_iou"] == {"background": 0.5, "red": 0, "blue": 0}
    assert found["mean_iou"] == pytest.approx(0.5 / 3)
    assert found["foreground_iou"] == 0
    assert found["boundary_f"] == 0


def test_a_network_with_one_logit_sees_the_class_where_it_is_above_0(tmp_path):
    net = Network(network(tmp_path / "net", seen="r", offsets=[-127.5]), threads=1)
    image, ids = halves(64, 128)
    assert (net.segment(image) == (ids == 1)).all()


def test_pixels_that_do_not_count_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("accuracy_score.TIMED_S", 1e-9)
    data = dataset(tmp_path / "data", ignore_id=7)
    for path in (data / "test/masks").iterdir():
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        path.write_bytes(cv2.imencode(".png", np.where(ids == 2, 7, ids).astype(np.uint8))[1].tobytes())
    found = score(network(tmp_path / "net", offsets=(1000, 0, 0)), data, threads=1)
    assert found["per_class_iou"] == {"background": pytest.approx(2 / 3), "red": 0, "blue": None}


def test_a_letterbox_shows_the_whole_picture_and_only_it(tmp_path):
    net = Network(network(tmp_path / "net", fit="letterbox"), threads=1)
    # A square fills the middle half of the wide input; the padding left and right of it must not come back.
    image, ids = halves(64, 64)
    shown = net.input_of(image)[0]
    assert (shown[:, [15, 48]] == PADDING).all() and not (shown[:, 16:48] == PADDING).any()
    assert (net.segment(image) == ids).mean() > 0.97


def test_logits_are_resized_before_the_largest_is_taken(tmp_path):
    net = Network(network(tmp_path / "net", integers=True, output="logits"), threads=1)
    rows, columns = np.mgrid[:128, :256]
    # A slanted border is smooth at four times the size of the logits, where class ids would give stairs of 4 pixels.
    ids = (rows > 0.37 * columns + 20).astype(np.uint8)
    found = net.segment(COLORS_BGR[ids])
    stairs = np.diff((found == 1).argmax(0)[5:250])
    assert np.abs(stairs).max() < 4


def test_results_are_found_by_what_was_run_and_a_torn_line_is_skipped(tmp_path):
    run = {"task": "cells", "engine": "edge-unet", "seed": 0, "minutes": 6, "threads": 2}
    other = {**run, "minutes": 5}
    lines = [{**run, "mean_iou": 0.1}, {**other, "mean_iou": 0.2}, {**run, "mean_iou": 0.3}]
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"task": "ce')
    records = bench_accuracy.read_results(path)
    assert [r["mean_iou"] for r in bench_accuracy.find(records, [run])] == [0.3]
    assert bench_accuracy.find(records, [{**run, "seed": 1}]) == []


def test_a_run_goes_on_where_it_stopped_and_says_once_that_data_are_absent(tmp_path, monkeypatch, capsys):
    measured = []

    def measure(run, data, args):
        measured.append((run["task"], run["engine"], run["seed"], data.name))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return {"mean_iou": 0.5, "foreground_iou": 0.4, "boundary_f": 0.3, "latency_ms": 2.0}

    monkeypatch.setattr(bench_accuracy, "measure", measure)
    monkeypatch.setattr(bench_accuracy, "limit_cores", lambda threads: None)
    monkeypatch.setitem(TASKS, "few", TASKS["few"]._replace(write=lambda folder, seed: dataset(folder)))
    monkeypatch.delenv("EDGE_UNET_DATA", raising=False)
    chosen = ["--task", "camvid", "--task", "few", "--engine", "edge-unet", "--engine", "plain Keras", "--seeds", "0,1"]
    monkeypatch.setattr("sys.argv", ["bench_accuracy.py", *chosen, "--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        bench_accuracy.main()
    assert capsys.readouterr().err.count("camvid: skipped, because EDGE_UNET_DATA is not set") == 1
    assert bench_accuracy.main() == 0
    first = [("few", engine, seed, f"few-{seed}") for seed in (0, 1) for engine in ("edge-unet", "plain Keras")]
    assert measured == [*first[:3], *first[2:]]
    assert "| few | 0.400 ± 0.000 | 0.400 ± 0.000 |" in (tmp_path / "accuracy.md").read_text()


def test_the_table_has_the_mean_and_half_the_range_over_the_seeds(tmp_path):
    common = {"task": "cells", "minutes": 6, "threads": 2, "boundary_f": 0.5, "mean_iou": 0.5, "latency_ms": 1.5}
    records = [
        {**common, "engine": "edge-unet", "seed": 0, "foreground_iou": 0.7},
        {**common, "engine": "edge-unet", "seed": 1, "foreground_iou": 0.8},
        {**common, "engine": "smp U-Net", "seed": 0, "foreground_iou": 0.6},
    ]
    rows = accuracy_report.markdown(records).splitlines()
    assert rows[0].endswith("| edge-unet | smp U-Net |")
    assert rows[2] == "| cells | 0.750 ± 0.050 | 0.600 |"
    assert "| cells | 1.50 | 1.50 |" in rows
    accuracy_report.write_chart(records, tmp_path / "chart.png")
    assert cv2.imread(str(tmp_path / "chart.png")) is not None


def test_a_trainer_is_given_the_pictures_in_rgb_and_what_does_not_count_as_255(tmp_path):
    data = dataset(tmp_path / "data", ignore_id=2)
    (data / "test").rename(data / "train")
    images, masks = given.read_split(data, "train", (32, 64))
    assert images[1, 0, 0].tolist() == [255, 0, 0]
    assert masks[:, 0, [0, 32, 63]].tolist() == [[1, 0, 255]] * 2
    assert given.common_size(data) == (64, 96)
