"""The gate between Keras and a package: what is over budget is named, and a fault of one percent is found."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from runs import (
    contract_of,
    finished,
    narrow_shape,
    noise,
    random_unet,
    reloaded,
    traced,
    trained,
    with_weights,
    write_color_data,
    write_run,
)

from edge_runtime.dataset.evaluate import Evaluation
from edge_runtime.dataset.metrics import BoundaryCounts
from edge_runtime.model.session import Session
from edge_runtime.segment.preprocess import model_input
from edge_runtime.segment.segmenter import Segmenter
from export.config import ParityBudget
from export.convert import convolution_layers, trace
from export.errors import ParityError
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.optimise import Stage, integer_layout, optimise
from export.parity.figures import Differences, OutputParity, Parity, StageParity
from export.parity.keras_reference import KerasReference
from export.parity.layers import LayerDifference
from export.parity.measure import measure_layers, measure_outputs, measure_stages
from export.parity.ties import COPIES, decides_inside, settled
from export.run_folder import TrainedRun, read_run
from export.validation_set import ValidationSet

SAME = Differences(
    inputs=1,
    finite=True,
    max_abs_logit_diff=0.0,
    mean_abs_logit_diff=0.0,
    max_abs_diff=0.0,
    mean_abs_diff=0.0,
    class_agreement=1.0,
)
SETS = ("real", "random", "extreme")


def evaluation(wrong: int = 0) -> Evaluation:
    """20,000 pixels, half of each class, of which ``wrong`` of the first are taken for the second."""
    matrix = np.array([[10_000 - wrong, wrong], [0, 10_000]], np.int64)
    return Evaluation(
        images=1,
        class_names=("a", "b"),
        matrix=matrix,
        boundary=BoundaryCounts(),
        image_accuracies=(1.0,),
        image_ious=(1.0,),
    )


def parity(**changes: object) -> Parity:
    inside = {name: changes.pop(name) for name in ("layers", "stages") if name in changes}
    same = OutputParity(real=SAME, random=SAME, extreme=SAME, keras=evaluation(), onnx=evaluation())
    return Parity(outputs=replace(same, **changes), **inside)  # type: ignore[arg-type]


class TestBudget:
    def test_what_is_the_same_passes_even_a_budget_of_nothing(self):
        parity().require(ParityBudget(max_abs_diff=0.0, class_agreement=1.0, mean_iou_change=0.0))

    def test_the_budget_itself_is_inside(self):
        at_the_limit = replace(SAME, max_abs_diff=1e-4, class_agreement=0.9999)
        parity(extreme=at_the_limit).require(ParityBudget())

    @pytest.mark.parametrize("name", SETS)
    def test_a_probability_over_budget_is_named_whichever_inputs_it_is_on(self, name):
        with pytest.raises(
            ParityError, match=r"differ: max \|Δ probability\| 0\.0002 > 0\.0001 — no package was written"
        ):
            parity(**{name: replace(SAME, max_abs_diff=2e-4)}).require(ParityBudget())

    @pytest.mark.parametrize("name", SETS)
    def test_a_low_agreement_is_named_whichever_inputs_it_is_on(self, name):
        with pytest.raises(ParityError, match=r"differ: pixel agreement 99\.9800% < 99\.9900% — no package"):
            parity(**{name: replace(SAME, class_agreement=0.9998)}).require(ParityBudget())

    @pytest.mark.parametrize(("better", "worse"), [("keras", "onnx"), ("onnx", "keras")])
    def test_a_mean_iou_that_moved_is_named_whichever_way(self, better, worse):
        # IoU (10000 − 20) / 10000 and 10000 / 10020: the mean falls by 0.001998.
        with pytest.raises(ParityError, match=r"differ: \|Δ mean IoU\| 0\.00200 > 0\.0005 — no package"):
            parity(**{better: evaluation(), worse: evaluation(wrong=20)}).require(ParityBudget())

    def test_everything_over_budget_is_named_in_one_line(self):
        bad = replace(SAME, finite=False, max_abs_diff=0.5, class_agreement=0.5)
        with pytest.raises(ParityError) as caught:
            parity(random=bad, onnx=evaluation(wrong=5000)).require(ParityBudget())
        text = str(caught.value)
        for figure in (
            "not finite on random inputs",
            "|Δ probability| 0.5",
            "agreement 50.0000%",
            "|Δ mean IoU| 0.41667",
        ):
            assert figure in text
        assert "\n" not in text
        assert caught.value.exit_code == 5

    @pytest.mark.parametrize("name", SETS)
    @pytest.mark.parametrize("figure", ["max_abs_diff", "class_agreement"])
    def test_nan_fails_whichever_inputs_it_is_on(self, name, figure):
        with pytest.raises(ParityError, match=r"nan"):
            parity(**{name: replace(SAME, **{figure: math.nan})}).require(ParityBudget())

    @pytest.mark.parametrize("name", SETS)
    def test_numbers_that_are_not_finite_fail_whichever_inputs_they_are_on(self, name):
        with pytest.raises(ParityError, match=rf"numbers that are not finite on {name} inputs"):
            parity(**{name: replace(SAME, finite=False)}).require(ParityBudget())


def stage(name: str, max_abs_diff: float = 1e-6, first_layer: str | None = None) -> StageParity:
    return StageParity(
        name=name,
        max_abs_diff=max_abs_diff,
        mean_abs_diff=1e-7,
        class_agreement=1.0,
        mean_iou_change=0.0,
        latency_ms=1.0,
        first_layer=first_layer,
    )


class TestLayersAndStages:
    def test_the_first_layer_over_budget_is_named(self):
        layers = tuple(
            LayerDifference(layer=name, relative_diff=diff) for name, diff in (("a", 1e-6), ("b", 3e-3), ("c", 1.0))
        )
        with pytest.raises(
            ParityError, match=r"differ: first in layer 'b', by 0\.003 of its largest number > 5e-05 — no"
        ):
            parity(layers=layers).require(ParityBudget())
        parity(layers=layers).require(ParityBudget(layer_diff=1.0))

    def test_a_layer_that_is_not_a_number_is_named_whatever_the_budget(self):
        layers = (LayerDifference(layer="a", relative_diff=math.nan),)
        with pytest.raises(ParityError, match=r"first in layer 'a', by nan"):
            parity(layers=layers).require(ParityBudget(layer_diff=1e30))

    def test_the_first_stage_over_budget_is_named_with_its_layer(self):
        stages = (stage("tf2onnx"), stage("pixels", 0.2, "stem"), stage("phases", 0.3, "decoder_0"))
        with pytest.raises(ParityError, match=r"differ: from stage 'pixels' on, first in layer 'stem' — no package"):
            parity(stages=stages).require(ParityBudget())

    @pytest.mark.parametrize("diff", [2e-4, math.nan])
    def test_a_stage_over_budget_fails_though_the_end_is_right(self, diff):
        with pytest.raises(ParityError, match=r"differ: from stage 'INT8 layout: copies' on — no package was written"):
            parity(stages=(stage("tf2onnx"), stage("INT8 layout: copies", diff))).require(ParityBudget())

    def test_both_are_in_the_figures(self):
        figures = parity(
            layers=(LayerDifference(layer="stem", relative_diff=3e-7),), stages=(stage("tf2onnx"), stage("phases"))
        ).to_dict(ParityBudget())
        assert figures["layers"] == {"stem": 3e-7}
        assert [s["name"] for s in figures["stages"]] == ["tf2onnx", "phases"]
        assert figures["stages"][0] == {
            "name": "tf2onnx", "max_abs_diff": 1e-6, "mean_abs_diff": 1e-7, "class_agreement": 1.0,
            "mean_iou_change": 0.0, "latency_ms": 1.0, "first_layer": None,
        }  # fmt: skip
        assert figures["budget"]["layer_diff"] == 5e-5
        json.dumps(figures, allow_nan=False)


@pytest.fixture(scope="module", params=["seed", "edge"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    root = tmp_path_factory.mktemp("parity")
    data = write_color_data(root / "data", binary=request.param == "seed")
    return read_run(write_run(root / "run", data, request.param))


@pytest.fixture(scope="module")
def model(run):
    return with_precise_means(read_model(run.checkpoint))


@pytest.fixture(scope="module")
def proto(run, model) -> onnx.ModelProto:
    return finished(model, contract=run.contract)


@pytest.fixture(scope="module")
def validation(run) -> ValidationSet:
    return ValidationSet.read(run.validation, run.key, run.contract)


def measured(run: TrainedRun, model, proto: onnx.ModelProto) -> Parity:
    segmenter = Segmenter(Session(proto.SerializeToString(), "model.onnx"), "fp32")
    validation = ValidationSet.read(run.validation, run.key, run.contract)
    reference = KerasReference(model, run.contract)
    return Parity(outputs=measure_outputs(reference, segmenter, validation, run.validation, run.key))


def convolutions(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == "Conv"]


def bottleneck(proto: onnx.ModelProto) -> onnx.NodeProto:
    """Return the last convolution of the bottleneck, however many a preset has there."""
    return [node for node in convolutions(proto) if node.name.startswith("bottleneck")][-1]


def test_a_good_conversion_passes_with_room_to_spare(run, model, proto, validation):
    calls = []
    segmenter = Segmenter(Session(proto.SerializeToString(), "model.onnx"), "fp32")
    reference = KerasReference(model, run.contract)
    found = measure_outputs(reference, segmenter, validation, run.validation, run.key, lambda *n: calls.append(n))
    Parity(outputs=found).require(ParityBudget(max_abs_diff=1e-5))
    assert [d.inputs for d in (found.real, found.random, found.extreme)] == [len(run.validation), 4, 4]
    assert found.keras.images == found.onnx.images == len(run.validation)
    assert 0 < found.keras.mean_iou < 1
    assert found.keras.mean_iou == pytest.approx(found.onnx.mean_iou, abs=5e-4)
    images = 2 * len(run.validation)
    assert calls == [("parity", n, images) for n in range(images + 1)]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_convolution_with_weights_one_percent_too_large_is_caught(run, model, proto, place):
    nodes = convolutions(proto)
    node = {"first": nodes[0], "middle": nodes[len(nodes) // 2], "last": nodes[-1]}[place]
    changed = with_weights(proto, node.input[1], lambda w: w * np.float32(1.01))
    with pytest.raises(
        ParityError, match=r"parity gate — Keras and onnxruntime differ: max \|Δ probability\| 0\.\d+ > 0\.0001"
    ):
        measured(run, model, changed).require(ParityBudget())


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_and_the_layer_it_is_in_is_named(run, model, proto, validation, place):
    nodes = convolutions(proto)
    node = {"first": nodes[0], "middle": nodes[len(nodes) // 2], "last": nodes[-1]}[place]
    changed = with_weights(proto, node.input[1], lambda w: w * np.float32(1.01))
    found = parity(layers=measure_layers(model, changed, validation, run.contract))
    name = re.sub("_nchw|_row_[01]", "", node.name)
    with pytest.raises(
        ParityError, match=rf"differ: first in layer '{name}', by 0\.0\d+ of its largest number > 5e-05 — no"
    ):
        found.require(ParityBudget())


def test_every_layer_of_a_good_conversion_is_within_budget(run, model, proto, validation):
    layers = measure_layers(model, proto, validation, run.contract)
    assert [d.layer for d in layers] == convolution_layers(model)
    assert max(d.relative_diff for d in layers) < 5e-6
    parity(layers=layers).require(ParityBudget())


@pytest.fixture(scope="module")
def stages(run, model) -> list[Stage]:
    raw, layers = trace(model, 17), convolution_layers(model)
    shipped, layout = optimise(raw, run.contract, layers), integer_layout(raw, layers)
    return [*shipped, *(s for s in layout if s.name not in {other.name for other in shipped})]


def test_every_stage_gives_what_keras_gives(run, model, stages, validation):
    calls: list[tuple[str, int, int]] = []
    found = measure_stages(model, stages, validation, run.contract, ParityBudget(), lambda *n: calls.append(n))
    names = [
        "tf2onnx",
        "unpooling",
        "upsampling",
        "hard-sigmoid",
        "normalisation",
        "pixels",
        "pixel-rows",
        "class map",
        "phases",
        "means",
        "gates",
        "skips",
    ]
    layout = [
        "INT8 layout: transposed",
        "INT8 layout: phases",
        "INT8 layout: copies",
        "INT8 layout: pixel-groups",
        "INT8 layout: pixel-groups-narrow",
    ]
    assert [s.name for s in found] == names + layout
    for s in found:
        assert s.max_abs_diff <= 1e-5, s
        assert s.mean_abs_diff <= s.max_abs_diff
        assert s.class_agreement >= 0.9999
        assert abs(s.mean_iou_change) <= 5e-4
        assert s.latency_ms > 0
        assert s.first_layer is None
    assert calls == [("stages", n, len(stages)) for n in range(len(stages) + 1)]
    parity(stages=found).require(ParityBudget())


@pytest.mark.parametrize("broken", ["tf2onnx", "pixels", "INT8 layout: copies"])
def test_a_stage_that_breaks_the_graph_is_named_with_the_layer_in_which_it_does(run, model, stages, validation, broken):
    place = [s.name for s in stages].index(broken)
    node = bottleneck(stages[place].model)
    changed = with_weights(stages[place].model, node.input[1], lambda w: w * np.float32(1.5))
    tampered = [*stages[:place], replace(stages[place], model=changed), *stages[place + 1 :]]
    found = measure_stages(model, tampered, validation, run.contract, ParityBudget())
    assert [s.name for s in found if s.max_abs_diff > 1e-4] == [broken]
    assert [s.first_layer for s in found if s.first_layer] == [node.name]
    with pytest.raises(
        ParityError, match=rf"differ: from stage '{broken}' on, first in layer '{node.name}' — no package"
    ):
        parity(stages=found).require(ParityBudget())


def test_no_layer_is_looked_for_where_layers_are_meant_to_differ(run, model, stages, validation):
    node = bottleneck(stages[-1].model)
    changed = replace(stages[-1], model=with_weights(stages[-1].model, node.input[1], lambda w: w * np.float32(1.5)))
    (found,) = measure_stages(model, [changed], validation, run.contract, None)
    assert found.max_abs_diff > 1e-4
    assert found.first_layer is None


def test_the_mean_iou_of_a_stage_is_told_with_its_sign():
    """On a model that is worth something: without the convolution of its logits nothing is found any more."""
    model, images, truths = trained()
    validation = ValidationSet(images=images, truths=truths, classes=3)
    (good,) = optimise(trace(model, 17), contract_of(model), convolution_layers(model))[-1:]
    kernel = convolutions(good.model)[-1].input[1]
    bad = replace(good, model=with_weights(good.model, kernel, np.zeros_like))
    before, after = measure_stages(model, [good, bad], validation, contract_of(model), ParityBudget())
    assert before.mean_iou_change == pytest.approx(0, abs=1e-6)
    assert after.mean_iou_change < -0.5
    assert after.class_agreement < 0.9
    assert after.first_layer == "logits"


def test_red_and_blue_in_each_other_s_place_are_caught(run, model, proto):
    changed = with_weights(proto, convolutions(proto)[0].input[1], lambda w: np.ascontiguousarray(w[:, ::-1]))
    with pytest.raises(ParityError, match=r"max \|Δ probability\|"):
        measured(run, model, changed).require(ParityBudget())


def test_a_bias_that_is_not_a_number_is_caught(run, model, proto):
    changed = with_weights(proto, convolutions(proto)[-1].input[2], lambda b: b * np.float32("nan"))
    with pytest.raises(ParityError, match=r"not finite on real inputs; .*on random inputs; .*on extreme inputs; .*nan"):
        measured(run, model, changed).require(ParityBudget())


def test_a_mask_that_is_not_of_the_logits_is_caught_though_the_logits_are_right(run, model, proto):
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    kind = "Greater" if run.contract.binary else "ArgMax"
    node = next(node for node in changed.graph.node if node.op_type == kind)
    if run.contract.binary:
        node.op_type = "Less"
    else:
        node.op_type = "ArgMin"
    with pytest.raises(ParityError, match=r"differ: pixel agreement .* < 99\.9900%; \|Δ mean IoU\|"):
        measured(run, model, changed).require(ParityBudget())


def test_the_figures_of_the_manifest_are_the_worst_of_all_inputs(run, model, proto):
    figures = measured(run, model, proto).to_dict(ParityBudget())
    for key, worst in (
        ("max_abs_diff", max),
        ("mean_abs_diff", max),
        ("max_abs_logit_diff", max),
        ("class_agreement", min),
    ):
        assert figures[key] == worst(figures["inputs"][name][key] for name in SETS)
    assert figures["budget"] == {
        "max_abs_diff": 1e-4,
        "class_agreement": 0.9999,
        "mean_iou_change": 0.0005,
        "layer_diff": 5e-5,
    }
    assert figures["mean_iou_change"] == pytest.approx(figures["mean_iou_onnx"] - figures["mean_iou_keras"])


def test_keras_sees_grey_pictures_as_the_runtime_does(tmp_path: Path):
    """One channel: there is nothing to turn round, and grey is made once, in the runtime's preprocessing."""
    model = reloaded(random_unet(narrow_shape("seed"), (32, 64), channels=1, logit_channels=1))
    contract = contract_of(model)
    segmenter = Segmenter(Session(finished(model, contract=contract).SerializeToString(), "model.onnx"), "fp32")
    image_bgr = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    image = model_input(image_bgr, contract.height_px, contract.width_px, contract.channels)
    logits, probabilities = KerasReference(model, contract).outputs(image)
    assert logits.shape == probabilities.shape == (32, 64, 1)
    np.testing.assert_allclose(segmenter.probabilities(image_bgr), probabilities, rtol=0, atol=1e-5)


class TestTies:
    """A network that chooses between places, as SegNet does, may choose another one where two values are nearly alike."""

    @staticmethod
    def comparing(differences):
        """Return a comparison that finds these differences one after the other, and the images that it is asked about."""
        asked = []

        def compare(image):
            asked.append(image)
            return differences[len(asked) - 1], len(asked)

        return compare, asked

    def test_a_difference_that_goes_away_with_another_level_is_a_tie(self):
        image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        compare, asked = self.comparing([0.1, 0.1, 1e-6])
        assert settled(image, compare, 1e-4) == 3
        assert asked[0] is image
        for copy in asked[1:]:
            assert copy.dtype == np.uint8
            steps = np.abs(copy.astype(int) - image)
            assert 0 < steps.mean() <= steps.max() == 1

    def test_a_fault_stays(self):
        compare, asked = self.comparing([0.1] * (COPIES + 1))
        assert settled(np.zeros((2, 2, 1), np.uint8), compare, 1e-4) == COPIES + 1 == len(asked)

    @pytest.mark.parametrize(("difference", "limit"), [(0.1, None), (1e-5, 1e-4)])
    def test_nothing_is_tried_again_without_need(self, difference, limit):
        compare, asked = self.comparing([difference])
        assert settled(np.zeros((2, 2, 1), np.uint8), compare, limit) == 1 == len(asked)

    def test_only_networks_that_decide_inside_can_be_at_a_tie(self):
        assert decides_inside(traced("segnet", 3, 3)[1])
        assert not decides_inside(traced("edge", 3, 3)[1])

    def test_a_fault_of_such_a_network_is_found(self):
        model, raw = traced("segnet", 3, 3)
        (good,) = optimise(raw, contract_of(model), convolution_layers(model))[-1:]
        images = tuple(noise(model))
        validation = ValidationSet(images=images, truths=images, classes=3)

        def largest(graph):
            layers = measure_layers(model, graph, validation, contract_of(model), tie_limit=1e-4)
            return max(d.relative_diff for d in layers)

        assert largest(good.model) < 1e-5
        kernel = convolutions(good.model)[3].input[1]
        assert largest(with_weights(good.model, kernel, lambda w: w * np.float32(1.01))) > 1e-3
