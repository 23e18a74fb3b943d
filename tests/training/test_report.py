"""The training report: its sentences and charts on their own, and the whole page from a made-up run."""

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import DatasetFolder, squares
from epochs import epoch_record
from hypothesis import example, given
from hypothesis import strategies as st

from edge_runtime.dataset.evaluate import Evaluation, evaluate
from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.metrics import BoundaryCounts
from edge_runtime.dataset.pairs import Problem
from edge_runtime.model.contract import Contract
from training.data.check import check_dataset
from training.data.dataset import make_classes, read_class_ids
from training.loop.run_record import RunRecord
from training.monitor.records import EpochRecord, to_csv
from training.report import ReportFacts, render_report, write_report
from training.report.charts import Series, epoch_ticks, histogram, line_chart, nice_ticks, sparkline, stacked_bars
from training.report.tables import class_rows, line_css, matrix_rows
from training.report.words import advice, confusions, duration, limit, listed, percent, time_shares, with_code

NAMES = ("background", "red", "blue")
IMAGES = [f"{i}.jpg" for i in range(30)]
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}


epoch = partial(epoch_record, val_class_iou=(0.9, 0.5, None))


def evaluation(matrix: object, *, images: int = 30, boundary_f: float = 0.9) -> Evaluation:
    found = np.array(matrix, np.int64)
    matched = round(1000 * boundary_f)
    return Evaluation(
        images=images,
        class_names=tuple(f"c{i}" for i in range(len(found))),
        matrix=found,
        boundary=BoundaryCounts(matched_prediction=matched, prediction=1000, matched_truth=matched, truth=1000),
        image_accuracies=(1.0,) * images,
        image_ious=(1.0,) * images,
    )


class TestConfusions:
    def test_are_shares_of_the_true_class_the_worst_first(self):
        found = confusions(np.array([[90, 10, 0], [3, 1, 0], [0, 0, 7]]), ["road", "pole", "sky"])
        assert [(c.truth, c.prediction, c.share, c.pixels) for c in found] == [
            ("pole", "road", 0.75, 3),
            ("road", "pole", 0.1, 10),
        ]

    def test_of_next_to_nothing_are_not_named(self):
        assert confusions(np.array([[990, 10], [0, 5]]), ["a", "b"]) == []

    def test_of_a_class_that_does_not_occur_are_none(self):
        assert confusions(np.array([[5, 0], [0, 0]]), ["a", "b"]) == []


class TestLimit:
    def test_is_the_step_where_nothing_else_takes_time(self):
        assert limit([epoch(1, step_s=9.7, wait_s=0.1, validate_s=0.1)]).startswith(
            "The network's arithmetic limits the speed: training steps took 97\u00a0% of the time, and waiting for data 1\u00a0%."
        )

    def test_is_the_data_where_training_waits_for_it(self):
        text = limit([epoch(1, step_s=5.0, wait_s=4.0, validate_s=0.5)])
        assert text.startswith(
            "Loading data limits the speed: training waited for its next batch 40\u00a0% of the time"
        )
        assert "faster disk" in text

    def test_is_validation_where_that_takes_most(self):
        assert limit([epoch(1, step_s=4.0, validate_s=5.5)]).startswith("Validation took 55\u00a0% of the time")

    def test_shares_of_the_time_add_up(self):
        shares = time_shares([epoch(1), epoch(2, step_s=1.0, wait_s=7.0)])
        assert shares == pytest.approx({"steps": 0.45, "waiting": 0.36, "validating": 0.1, "other": 0.09})


class TestAdvice:
    GOOD = evaluation([[90, 5], [5, 90]])

    def about(self, history, found=GOOD, shares=(0.5, 0.5), status="finished", augment=True):
        return advice(history, found, shares, IMAGES[: found.images], finished=status == "finished", augmented=augment)

    def test_is_none_where_nothing_stands_out(self):
        assert self.about([epoch(i) for i in range(1, 11)]) == []

    def test_to_train_longer_while_mean_iou_rises(self):
        (text,) = self.about([epoch(i, val_mean_iou=0.5 + i / 100) for i in range(1, 11)])
        assert text.startswith("Mean IoU was still rising at the end (+0.020 in the last 2 epochs). Train longer, for")
        assert "`--epochs 20`" in text

    def test_that_later_epochs_did_harm(self):
        history = [epoch(i, val_mean_iou=0.7 if i == 4 else 0.6, val_pixel_accuracy=0.9) for i in range(1, 11)]
        (text,) = self.about(history, augment=False)
        assert text.startswith(
            "Overfitting: mean IoU was best in epoch 4, whose model is saved, and then fell by 0.100."
        )
        assert "Augmentation is off: turn it on with `--augment`." in text

    def test_that_training_images_are_known_by_heart(self):
        (text,) = self.about([epoch(i, accuracy=0.99, val_pixel_accuracy=0.8) for i in range(1, 11)])
        assert text.startswith("Overfitting: 99\u00a0% of the training pixels are right and only 80\u00a0%")

    def test_to_go_on_with_a_run_that_was_stopped(self):
        assert "`--resume`" in self.about([epoch(1)], status="running")[0]

    def test_to_train_for_more_than_one_epoch(self):
        (text,) = self.about([epoch(1)])
        assert text == "The run has too few epochs to judge. Train longer, with larger `--epochs` or `--max-minutes`."

    @pytest.mark.parametrize(
        ("matrix", "shares", "start"),
        [
            ([[990, 0], [9, 1]], (0.995, 0.005), "Few pixels, low IoU: c1 (IoU 0.10, 0.5\u00a0% of the pixels)."),
            ([[500, 0], [450, 50]], (0.5, 0.5), "Low IoU though not rare: c1 (IoU 0.10, 50\u00a0% of"),
            ([[500, 0], [0, 0]], (0.9, 0.1), "No validation pixel of c1"),
            ([[500, 0], [3, 0]], (1.0, 0.0), "No training pixel of c1"),
        ],
    )
    def test_names_the_classes_that_are_badly_found_and_why(self, matrix, shares, start):
        (text,) = self.about([epoch(i) for i in range(1, 11)], evaluation(matrix), shares)
        assert text.startswith(start)

    def test_on_few_images_and_rough_borders(self):
        few, rough = self.about(
            [epoch(i) for i in range(1, 11)], evaluation([[90, 5], [5, 90]], images=4, boundary_f=0.5)
        )
        assert few.startswith("Only 4 validation images")
        assert rough.startswith("Areas are found better than borders (mean IoU 0.90, boundary F 0.50)")

    def test_on_images_that_are_far_below_the_others(self):
        ious = (0.9, None, 0.2, *[0.9] * 26, 0.5)
        (text,) = self.about([epoch(i) for i in range(1, 11)], replace(self.GOOD, image_ious=ious))
        assert text.startswith(
            "Mean IoU far below that of the median validation image (0.90): 2.jpg (0.20) and 29.jpg (0.50)."
        )


class TestNumbersInWords:
    @pytest.mark.parametrize(
        ("share", "text"),
        [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.0123, "1.2 %"), (0.05, "5 %"), (0.118, "12 %"), (0.9951, "99.5 %"), (1.0, "100 %")],
    )  # fmt: skip
    def test_percent(self, share, text):
        assert percent(share) == text.replace(" ", "\u00a0")

    @pytest.mark.parametrize(
        ("seconds", "text"), [(3.21, "3.2 s"), (43.4, "43 s"), (130, "2 min"), (8000, "2 h 13 min")]
    )
    def test_duration(self, seconds, text):
        assert duration(seconds) == text

    def test_enumerations(self):
        assert listed(["a"]) == "a"
        assert listed(["a", "b", "c"]) == "a, b and c"
        assert listed(list("abcd"), most=2) == "a, b and 2 more"

    def test_code_is_marked_and_everything_else_escaped(self):
        assert with_code("`--x` <b>") == "<code>--x</code> &lt;b&gt;"


class TestCharts:
    @given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
    @example(1.082, 1.0820001)  # a loss that stands still
    def test_ticks_enclose_the_range_and_are_few(self, a, b):
        low, high = min(a, b), max(a, b)
        ticks = nice_ticks(low, high)
        slack = 1e-5 * max(abs(low), abs(high), 1e-3)
        assert ticks[0] <= low + slack and high - slack <= ticks[-1]
        assert 2 <= len(ticks) <= 7
        assert ticks == sorted(set(ticks))

    @given(st.integers(1, 100_000))
    def test_epochs_on_an_axis_start_with_the_first_and_are_few(self, epochs):
        ticks = epoch_ticks(epochs)
        assert ticks[0] == 1 and ticks[-1] <= epochs
        assert ticks == sorted(set(ticks)) and len(ticks) <= 11

    def test_a_line_spans_the_chart_and_the_best_epoch_is_marked(self):
        chart = line_chart([Series(name="a", values=[0.0, 1.0, 0.5], color="red")], best_epoch=2)
        assert chart.lines[0].path == "M48 186L277 12L506 99"
        assert (chart.mark.x, chart.mark.y, chart.mark.text) == (277.0, 12.0, "1.0000 in epoch 2")
        assert chart.lines[0].points[2].text == "a, epoch 3: 0.5"

    def test_a_line_is_broken_where_there_is_no_value(self):
        (line,) = line_chart([Series(name="a", values=[0.0, None, 1.0, 1.0], color="red")]).lines
        assert line.path.count("M") == 2 and len(line.points) == 3
        assert sparkline([0.5, None, 0.5]).count("M") == 2

    def test_one_epoch_and_one_value_are_drawn_too(self):
        chart = line_chart([Series(name="a", values=[0.3], color="red")], best_epoch=1)
        assert chart.lines[0].points and chart.mark is not None
        assert line_chart([Series(name="a", values=[None], color="red")]).lines[0].path == ""

    def test_a_thousand_epochs_make_few_elements(self):
        chart = line_chart([Series(name="a", values=[0.5] * 1000, color="red")])
        assert chart.lines[0].points == ()
        bars = stacked_bars([("steps", "red", [1.0] * 1000), ("rest", "blue", [0.5] * 1000)], unit="s")
        assert len(bars.bars) == 2 * 59
        assert bars.bars[0].text == "epochs 1–17: 1 s steps"

    def test_bars_stand_on_each_other(self):
        low, high = stacked_bars([("steps", "red", [3.0]), ("rest", "blue", [1.0])], unit="s").bars
        assert low.y + low.height == pytest.approx(186)
        assert high.y + high.height == pytest.approx(low.y)
        assert low.height == pytest.approx(3 * high.height, abs=0.2)

    def test_a_histogram_counts_every_value_once(self):
        bars = histogram([0.0, 0.01, 0.5, 1.0], color="red").bars
        assert [bar.text.split()[0] for bar in bars] == ["2", "1", "1"]


class TestTables:
    CLASSES = make_classes(["road", "pole", "sky"], [[255, 255, 255], [0, 120, 255], [0, 0, 0]])

    def test_a_class_has_all_its_figures(self):
        found = replace(evaluation([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), class_names=("road", "pole", "sky"))
        history = [epoch(1, val_class_iou=(0.0, 0.5, None)), epoch(2, val_class_iou=(1.0, 0.5, None))]
        road, _, sky = class_rows(found, self.CLASSES, [0.75, 0.25, 0.0], history)
        assert (road.iou, road.dice) == pytest.approx((6 / 9, 12 / 15))
        assert (road.precision, road.recall) == pytest.approx((6 / 7, 6 / 8))
        assert (road.train_share, road.val_share) == pytest.approx((0.75, 8 / 12))
        assert road.curve == "M1 21L109 1"
        assert (sky.iou, sky.dice, sky.precision, sky.recall, sky.curve) == (None, None, None, None, "")

    def test_the_matrix_says_what_each_class_is_called(self):
        rows = matrix_rows(evaluation([[96, 4, 0], [300, 699, 1], [0, 0, 0]]), self.CLASSES)
        assert [[cell.text for cell in row.cells] for row in rows] == [["96", "4", ""], ["30", "70", "·"], []]
        assert rows[0].cells[1].title == "4\u00a0% of road is predicted as pole (4 of 100 pixels)"
        assert rows[0].cells[0].title == "96\u00a0% of road is found (96 of 100 pixels)"
        assert rows[0].cells[2].strength == 0

    def test_of_many_classes_the_matrix_shows_those_with_the_most_pixels(self):
        classes = make_classes([f"c{i}" for i in range(40)])
        rows = matrix_rows(evaluation(np.diag(np.arange(40))), classes)
        assert [row.name for row in rows] == [f"c{i}" for i in range(10, 40)]
        assert {len(row.cells) for row in rows} == {30}

    def test_lines_can_be_seen_on_white_and_on_black(self):
        assert [line_css(c) for c in self.CLASSES] == ["var(--soft)", "#0078ff", "var(--soft)"]


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a page refers to and says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += f" {data}"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    data = DatasetFolder(tmp_path_factory.mktemp("report") / "data")
    data.fill(3, "train").fill(12, "val", first_seed=50).yaml(
        "classes: [background, red, blue]\nignore_id: 9\ncolors: [[0, 0, 0], [255, 0, 0], [0, 0, 255]]\n"
    )
    found = check_dataset(data.root)
    found.require_ok()
    return found


def thresholds(image_bgr):
    """Find red and blue, and miss blue in the left of the picture."""
    mask = np.zeros(image_bgr.shape[:2], np.uint8)
    mask[image_bgr[..., 2] > 150] = 1
    mask[image_bgr[..., 0] > 150] = 2
    mask[:, 16:20] = 0
    return mask


def facts(report, *, epochs=12, pairs=12, **changes):
    chosen = report.dataset.splits["val"][:pairs]
    classes = report.info.classes
    contract = Contract(
        name="squares", height_px=32, width_px=32, channels=3, binary=False, classes=classes, ignore_id=9
    )
    history = [epoch(i, val_mean_iou=0.5 + min(i, 9) / 50).to_dict() for i in range(1, epochs + 1)]
    record = {
        "format_version": 2,
        "checkpoints": {"best": [], "states": []},
        "status": "finished",
        "config": {"preset": "edge", "epochs": epochs, "augment": True, "max_minutes": None, "seed": 3},
        "contract": contract.to_dict(),
        "data": {
            "root": "/data/squares",
            "fingerprint": report.fingerprint,
            "mask_encoding": report.encoding,
            "labels": report.key.to_dict(),
            "splits": {"train": [["a", "b"]] * 3, "val": [["a", "b"]] * pairs},
        },
        "versions": {"keras": "3.15.1"},
        "history": history,
        "parameters": 1234567,
        "seed": 3,
        "elapsed_s": 10.0 * epochs,
    }
    result = evaluate(thresholds, chosen, key=report.key, classes=NAMES)
    values = {
        "record": RunRecord.from_dict(json.loads(json.dumps(record)), "run.json"),
        "evaluation": result,
        "pairs": chosen,
        "read_truth": lambda pair: read_class_ids(pair, report.key),
        "segment": thresholds,
        "problems": report.problems,
        "sizes": {(32, 32): 14, (480, 640): 1000},
        "train_pixels": np.array([800, 100, 124]),
        "split_by": "held out by seed",
        "command": "edge-unet train data --out runs/squares",
        "cores": 2,
    }
    return ReportFacts(**{**values, **changes})


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "my run" / "report.html"
    path.parent.mkdir()
    write_report(path, facts(report))
    return Page(path.read_text(encoding="utf-8"))


class TestPage:
    def test_stands_alone(self, page):
        assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
        assert not {"script", "link", "iframe"} & set(page.tags)

    def test_says_how_good_the_model_is_and_on_what_that_was_measured(self, page, report):
        result = facts(report).evaluation
        assert f"{result.mean_iou:.4f} mean IoU" in page.text
        assert f"{result.boundary_f:.4f} boundary F" in page.text
        assert (
            "Measured on 12 validation images (held out by seed) at their own size, with the model of epoch 9"
            in page.text
        )

    def test_says_what_is_confused_and_what_to_do_next(self, page):
        assert re.search(r"\d % of blue is predicted as background", page.text)
        assert "Only 12 validation images" in page.text
        assert re.search(r"edge-unet export '\S+/my run' --out models/squares", page.text)

    def test_shows_three_images_each_of_the_worst_the_middle_and_the_best(self, page, report):
        assert page.tags.count("img") == 9 * 4
        scores = [float(score) for score in re.findall(r"· mean IoU (\S+),", page.text)]
        ious = sorted(round(iou, 3) for iou in facts(report).evaluation.image_ious)
        assert scores == ious[:3] + ious[4:7] + ious[9:]
        assert re.findall(r"\b(Worst|Middle|Best)\b", page.text) == ["Worst", "Middle", "Best"]

    def test_tells_the_run_apart_from_others(self, page, report):
        for text in ("1,234,567 parameters", "edge-unet train data --out runs/squares", "keras 3.15.1", "train 3, val 12",
                     "index, value 9 is ignored", "640×480 (1,000) and 32×32 (14)", report.fingerprint, "max_minutes –"):  # fmt: skip
            assert text in page.text

    @pytest.mark.parametrize(("pairs", "pictures"), [(1, 1), (2, 2), (3, 3), (5, 3), (7, 6)])
    def test_of_few_images_shows_each_but_once(self, report, tmp_path, pairs, pictures):
        page = Page(render_report(facts(report, pairs=pairs), tmp_path))
        assert page.tags.count("img") == 4 * pictures

    def test_of_one_epoch_without_class_iou_is_whole(self, report, tmp_path):
        found = facts(report, epochs=1, sizes={})
        record = replace(found.record, history=(replace(found.record.history[0], val_class_iou=()),))
        page = Page(render_report(replace(found, record=record), tmp_path))
        assert "IoU of every class" not in page.text and "image sizes" not in page.text
        assert "1 epoch in 10 s" in page.text

    def test_of_an_interrupted_run_says_so(self, report, tmp_path):
        found = facts(report)
        found = replace(found, record=replace(found.record, status="running"))
        assert "This run stopped before its end, after 12 epochs" in Page(render_report(found, tmp_path)).text

    def test_takes_names_for_text(self, report, tmp_path):
        found = facts(report, split_by="<script>alert(1)</script>")
        contract = found.setup.contract
        named = replace(contract, classes=tuple(replace(c, name=f"<b title='x'>{c.id}") for c in contract.classes))
        found = replace(found, record=replace(found.record, setup=replace(found.setup, contract=named)))
        page = Page(render_report(found, tmp_path))
        assert not {"b title", "script"} & set(page.tags)
        assert "<b title='x'>2" in page.text

    def test_lists_the_warnings_of_the_check_by_kind(self, report, tmp_path):
        problems = [
            Problem(severity="warning", code="blank_image", file=f"{i}.png", message=f"{i}.png — flat — remove it")
            for i in range(60)
        ]
        problems += [Problem(severity="warning", code="groups", file="g", message="odd groups")]
        page = Page(render_report(facts(report, problems=problems), tmp_path))
        assert "The dataset check found 61 warnings:" in page.text
        assert (
            "60 images are of one flat colour (first: 0.png: flat; edge-unet data check --all lists all) — remove it"
            in page.text
        )
        assert "odd groups" in page.text

    def test_images_without_a_counted_pixel_are_not_ranked(self, report, tmp_path):
        found = facts(report, pairs=4)
        ious = (None, *found.evaluation.image_ious[1:])
        page = Page(render_report(replace(found, evaluation=replace(found.evaluation, image_ious=ious)), tmp_path))
        assert "val0" not in page.text


def test_history_goes_through_json_and_back():
    record = epoch(3)
    assert EpochRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_the_csv_has_a_header_and_a_row_an_epoch_without_the_classes():
    lines = to_csv([epoch(1), epoch(2)]).splitlines()
    assert lines[0] == (
        "epoch,loss,accuracy,val_mean_iou,val_pixel_accuracy,learning_rate,seconds,step_s,wait_s,validate_s,images_per_s"
    )
    assert lines[2] == "2,0.5,0.9,0.6,0.875,0.001,10.0,8.0,0.2,1.0,20.0"


def test_wrong_pixels_are_red_and_what_counts_nowhere_is_not():
    from edge_runtime.effects import MARK_BGR
    from training.monitor.samples import Sample

    image_bgr, truth = squares(1)
    truth = truth.copy()
    truth[0] = IGNORE
    errors = Sample(name="a", image_bgr=image_bgr, truth=truth, prediction=np.zeros_like(truth)).errors()
    red = (errors == MARK_BGR).all(axis=-1)
    assert np.array_equal(red, (truth != 0) & (truth != IGNORE))
