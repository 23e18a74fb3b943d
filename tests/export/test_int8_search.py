"""INT8 only if it wins: ranges as NumPy finds them, a search that stops where it should, reasons that hold the figures."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from runs import contract_of, finished, random_unet, trained

from edge_runtime.dataset.metrics import mean_iou
from edge_runtime.model.session import Session
from export.config import Int8Budget
from export.convert import convolution_layers, trace
from export.errors import Int8Error
from export.int8_search import Quantization, find_int8, measure_ranges
from export.optimise import integer_layout, optimise
from export.parity.layers import Probe
from export.passes.quantize import layers_of, measured_values
from export.validation_set import ValidationSet
from training.network.unet import UNetShape

ANY_SPEED = Int8Budget(speedup=0.0)


class Case:
    """A Keras model in float, its layout for INT8, and images that it has not seen."""

    def __init__(self, model: keras.Model) -> None:
        _, images, truths = trained()
        raw, layers = trace(model, 17), convolution_layers(model)
        self.contract = contract_of(model)
        self.float_model = optimise(raw, self.contract, layers)[-1].model
        self.layout = integer_layout(raw, layers)[-1].model
        self.layers = layers
        self.validation = ValidationSet(images=images, truths=truths, classes=3)

    def find(
        self, budget: Int8Budget = ANY_SPEED, calibration: Sequence[NDArray[np.uint8]] | None = None, **options
    ) -> tuple[Quantization, onnx.ModelProto | None]:
        images = self.validation.images if calibration is None else calibration
        return find_int8(self.layout, self.float_model, self.contract, self.validation, images, budget, **options)

    def mean_iou(self, model: onnx.ModelProto) -> float:
        session = Session(model.SerializeToString(), "model", self.contract)
        return mean_iou(self.validation.matrix(session.mask(image) for image in self.validation.images))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(trained()[0])


@pytest.fixture(scope="module")
def black(case) -> list[NDArray[np.uint8]]:
    """What a camera with its cap on would calibrate on: ranges in which no picture fits."""
    return [np.zeros_like(case.validation.images[0])]


@pytest.fixture(scope="module")
def ruined(case, black) -> tuple[Quantization, onnx.ModelProto | None]:
    return case.find(calibration=black)


@pytest.fixture(scope="module")
def sensitive() -> Case:
    """A network in which one layer minds: a weight of 1000 on a channel that is always zero leaves none for the others.

    In float it gives what it gave. In INT8 the scale of that layer's weights is set by a number that nothing is
    multiplied with, and all other weights of it become zero.
    """
    original = trained()[0]
    model = keras.models.clone_model(original)
    model.set_weights(original.get_weights())
    first, second = model.get_layer("bottleneck_a"), model.get_layer("bottleneck_b")
    kernel, bias = (np.array(w) for w in first.get_weights())
    silent = int(np.abs(kernel).sum((0, 1, 2)).argmin())
    kernel[..., silent], bias[silent] = 0, -1
    first.set_weights([kernel, bias])
    kernel, bias = (np.array(w) for w in second.get_weights())
    kernel[:, :, silent] = 1000
    second.set_weights([kernel, bias])
    return Case(model)


def identity() -> onnx.ModelProto:
    """A graph whose one measured value is the image itself, less 100."""
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
            node("Conv", ["nchw", "kernel", "bias"], ["value"], kernel_shape=[1, 1]),
        ],
        "identity",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 100, 100, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1, 100, 100])],
        [
            numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "kernel"),
            numpy_helper.from_array(np.array([-100], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def picture(*counts: tuple[int, int]) -> NDArray[np.uint8]:
    """(100, 100, 1) pixels: of each value as many as said, the rest 100, which becomes zero."""
    pixels = np.full(10_000, 100, np.uint8)
    place = 0
    for value, count in counts:
        pixels[place : place + count] = value
        place += count
    return pixels.reshape(100, 100, 1)


class Counted(Sequence[NDArray[np.uint8]]):
    """Images that are made when they are asked for; counts how many of them are in memory at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._references: list[weakref.ref[NDArray[np.uint8]]] = []
        self.most = 0
        self.made = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place):
        if place >= self._count:
            raise IndexError
        image = np.random.default_rng(place).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        self._references.append(weakref.ref(image))
        self.made += 1
        self.most = max(self.most, sum(reference() is not None for reference in self._references))
        return image


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


class TestRanges:
    def test_min_max_is_numpy_s(self, case):
        names = measured_values(ir.from_proto(case.layout).graph)
        found = measure_ranges(case.layout, case.validation.images)
        probe = Probe(case.layout, names)
        values = [probe.run(image, names) for image in case.validation.images]
        assert found.keys() == set(names)
        assert len(names) >= len(case.layers)
        for place, name in enumerate(names):
            everything = np.concatenate([value[place].reshape(-1) for value in values])
            # Zero is always inside: it is what convolutions pad with.
            assert found[name] == (min(0.0, float(everything.min())), max(0.0, float(everything.max())))

    @pytest.mark.parametrize("percentile", [100.0, 99.99, 99.0, 90.0])
    def test_a_percentile_is_inside(self, case, percentile):
        whole = measure_ranges(case.layout, case.validation.images)
        for name, (low, high) in measure_ranges(case.layout, case.validation.images, percentile).items():
            assert whole[name][0] <= low <= high <= whole[name][1] + 1e-9

    def test_min_max_keeps_the_one_pixel(self):
        assert measure_ranges(identity(), [picture((200, 1)), picture((90, 1))]) == {"value": (-10.0, 100.0)}

    @pytest.mark.parametrize(
        ("percentile", "expected"),
        [
            # 20,000 numbers on two images: 2 far above, 200 above, 19,797 zeros, 1 far below.
            (100.0, (-100.0, 155.0)),
            (99.97, (0.0, 50.0)),  # 3 may go at each end: the two highest and the lowest
            (98.5, (0.0, 50.0)),  # 150 at each end: most of the 200
            (97.0, (0.0, 0.0)),  # 300 at each end: all of them
        ],
    )
    def test_a_percentile_cuts_off_what_is_rare(self, percentile, expected):
        images = [picture((255, 1), (150, 100), (0, 1)), picture((255, 1), (150, 100))]
        low, high = measure_ranges(identity(), images, percentile)["value"]
        assert (low, high) == pytest.approx(expected, abs=2 * 255 / 2048)  # bins of the histogram

    def test_a_value_that_is_always_zero_has_a_range(self):
        for percentile in (None, 99.99):
            assert measure_ranges(identity(), [picture()], percentile)["value"] == (0.0, 0.0)

    def test_a_value_far_from_zero_keeps_zero_inside(self):
        assert measure_ranges(identity(), [np.full((100, 100, 1), 180, np.uint8)]) == {"value": (0.0, 80.0)}

    @pytest.mark.parametrize("percentile", [None, 99.99])
    def test_one_image_is_in_memory_at_a_time(self, case, percentile):
        images = Counted(12)
        measure_ranges(case.layout, images, percentile)
        assert images.made == (12 if percentile is None else 24)
        assert images.most <= 2  # the one before is let go when the next is there

    def test_what_is_measured_on_an_image_is_let_go_too(self, case):
        class Watched(Counted):
            start = 0.0
            highest = 0.0

            def __getitem__(self, place):
                if place == 20:
                    self.start = resident_mb()
                self.highest = max(self.highest, resident_mb())
                return super().__getitem__(place)

        images = Watched(320)
        measure_ranges(case.layout, images)
        names = measured_values(ir.from_proto(case.layout).graph)
        an_image_mb = sum(v.nbytes for v in Probe(case.layout, names).run(images[0], names)) / 2**20
        assert images.highest - images.start < 0.25 * 300 * an_image_mb


class TestFound:
    def test_a_sensible_model_wins_at_the_first_attempt(self, case):
        steps: list[str] = []
        found, model = case.find(on_progress=lambda what, done, total: steps.append(what))
        assert found.shipped
        assert [a.calibration for a in found.attempts] == ["min-max", "percentile"]
        assert all(a.float_layers == () for a in found.attempts)
        assert found.best in found.attempts
        assert found.best.within(found.budget)
        assert found.sensitivity is None
        assert found.speedup > 0
        assert found.calibration_images == len(case.validation.images)
        assert f"{found.speedup:.2f} times as fast as float on this machine" in found.reason
        assert "asked for" not in found.reason
        assert steps == ["calibrating", "trying INT8", "timing INT8"]
        operators = {node.op_type for node in model.graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators

    def test_the_same_model_and_images_give_the_same_bytes(self, case):
        (_, first), (_, again) = case.find(), case.find()
        assert first.SerializeToString() == again.SerializeToString()

    def test_the_loss_is_that_of_the_graph_it_gives(self, case):
        found, model = case.find()
        before, after = case.mean_iou(case.float_model), case.mean_iou(model)
        assert before > 0.9
        assert found.best.mean_iou_drop == pytest.approx(before - after, abs=1e-12)
        assert f"changes the mean IoU by {after - before:+.4f}" in found.reason

    def test_a_model_that_is_not_faster_is_not_shipped_and_the_reason_says_how_fast_it_is(self, case):
        found, model = case.find(Int8Budget(speedup=1000.0))
        assert (found.shipped, model) == (False, None)
        assert found.best.within(found.budget)
        assert found.reason.endswith(
            f"is {found.speedup:.2f} times as fast as float on this machine (at least 1000 times is asked for)"
        )

    def test_the_speedup_is_float_over_int8(self, case):
        """Against a network of fifty times the work, so that no other load on the machine could turn it round."""
        wide = finished(random_unet(UNetShape(widths=(64, 64), batch_norm=False), (48, 64)))
        budget = Int8Budget(mean_iou_drop=2.0, class_iou_drop=2.0, speedup=2.0)
        validation, contract = case.validation, case.contract
        found, model = find_int8(case.layout, wide, contract, validation, validation.images, budget)
        assert found.speedup > 2
        assert found.shipped
        assert model is not None

    def test_it_is_shipped_all_the_same_where_it_is_insisted_on(self, case):
        found, model = case.find(Int8Budget(speedup=1000.0), insist=True)
        assert found.shipped
        assert model is not None
        assert "asked for" not in found.reason

    def test_a_layer_that_minds_stays_in_float(self, sensitive):
        steps: list[str] = []
        found, model = sensitive.find(on_progress=lambda what, done, total: steps.append(what))
        assert not any(attempt.within(found.budget) for attempt in found.attempts[:2])
        assert max(found.sensitivity, key=found.sensitivity.get) == "bottleneck_b"
        assert found.sensitivity["bottleneck_b"] > 0.9
        assert found.best.float_layers == ("bottleneck_b",)
        assert len(found.attempts) == 3  # and no more layers than are needed
        assert found.shipped
        assert "with bottleneck_b in float" in found.reason
        assert sensitive.mean_iou(model) == pytest.approx(sensitive.mean_iou(sensitive.float_model), abs=0.005)
        assert steps == ["calibrating", "trying INT8", "looking for sensitive layers", "timing INT8"]


class TestLost:
    def test_it_is_not_shipped_and_the_reason_states_the_loss(self, case, ruined):
        found, model = ruined
        assert (found.shipped, model) == (False, None)
        assert found.best.mean_iou_drop > 0.3
        assert found.reason == (
            f"INT8 changes the mean IoU by {-found.best.mean_iou_drop:+.4f} and the IoU of '{found.best.worst_class}' by "
            f"{-found.best.class_iou_drop:+.4f} (at most -0.005 and -0.02 are allowed)"
        )
        assert found.speedup is None
        assert found.calibration_images == 1

    def test_more_and_more_layers_were_left_in_float_up_to_half(self, case, ruined):
        found, _ = ruined
        assert [len(a.float_layers) for a in found.attempts] == [
            0,
            0,
            1,
            2,
        ]  # of 7 layers: 1, 2, and 4 is more than half
        order = sorted(found.sensitivity, key=lambda layer: -found.sensitivity[layer])
        for attempt in found.attempts[2:]:
            assert list(attempt.float_layers) == order[: len(attempt.float_layers)]
            assert not attempt.within(found.budget)
        assert found.best.mean_iou_drop == min(a.mean_iou_drop for a in found.attempts)

    def test_the_sensitivity_of_every_layer_was_measured(self, case, ruined):
        assert list(ruined[0].sensitivity) == layers_of(ir.from_proto(case.layout).graph) == case.layers
        assert all(np.isfinite(share) and share <= 1 for share in ruined[0].sensitivity.values())

    def test_insisting_on_it_is_an_error_of_the_gate(self, case, black):
        with pytest.raises(Int8Error) as caught:
            case.find(calibration=black, insist=True)
        assert caught.value.exit_code == 5
        assert str(caught.value).startswith("INT8 — changes the mean IoU by -0.")
        assert "(at most -0.005 and -0.02 are allowed) — no package was written — calibrate on more" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("figure", ["mean_iou_drop", "class_iou_drop"])
    def test_each_of_the_two_losses_counts_alone(self, case, black, figure):
        generous = {"mean_iou_drop": 2.0, "class_iou_drop": 2.0}
        assert case.find(Int8Budget(speedup=0.0, **generous), black)[0].shipped
        assert not case.find(Int8Budget(speedup=0.0, **{**generous, figure: 0.01}), black)[0].shipped


class TestJson:
    @pytest.mark.parametrize("kind", ["found", "lost", "off"])
    def test_everything_is_json_without_nan(self, case, ruined, kind):
        found = {
            "found": lambda: case.find()[0],
            "lost": lambda: ruined[0],
            "off": lambda: Quantization(shipped=False, reason="INT8 was switched off", budget=Int8Budget()),
        }[kind]()
        value = found.to_dict()
        assert json.loads(json.dumps(value, allow_nan=False)) == value
        assert value.keys() == {
            "shipped", "reason", "budget", "calibration_images", "attempts", "best", "sensitivity", "speedup",
        }  # fmt: skip
        assert value["budget"].keys() == {"mean_iou_drop", "class_iou_drop", "speedup"}
        assert len(value["attempts"]) == len(found.attempts)

    def test_a_class_that_is_nowhere_is_no_loss(self, case):
        """Its IoU is no number, neither before nor after."""
        nothing = ValidationSet(
            images=case.validation.images, truths=tuple(np.full_like(t, 255) for t in case.validation.truths), classes=3
        )
        found, _ = find_int8(
            case.layout, case.float_model, case.contract, nothing, nothing.images, Int8Budget(speedup=0.0)
        )
        assert found.best.class_iou_drop == 0
        json.dumps(found.to_dict(), allow_nan=False)
