import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from training.config import TrainConfig
from training.presets import PRESETS, preset_named


def test_the_presets_are_the_documented_ones():
    methods = ["fcn", "fcn-vgg16", "segnet", "segnet-vgg16", "deeplab", "deeplab-xception"]
    assert list(PRESETS) == ["seed", "classic", "edge-nano", "edge", "edge-large", "selfie", *methods]
    assert [p.shape.stride for p in PRESETS.values()] == [2, 16, 32, 32, 32, 16, 32, 32, 32, 32, 16, 16]
    seed = PRESETS["seed"]
    assert (seed.shape.widths, seed.shape.batch_norm, seed.shape.stem_stride) == ((64, 128), False, 1)
    assert (seed.input_size, seed.epochs, seed.batch_size, seed.validation_fraction) == ((256, 256), 10, 8, 0.1)
    assert (seed.recipe.optimizer, seed.learning_rate, seed.recipe.schedule, seed.loss) == (
        "adam",
        1e-3,
        "constant",
        "cross_entropy",
    )
    assert (seed.recipe.weight_decay, seed.recipe.average_over, seed.precision) == (0, 0, "float32")
    assert seed.fixed_size
    assert not seed.augment
    assert PRESETS["classic"].shape.widths == (64, 128, 256, 512, 1024)


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_starts_from_its_preset(name):
    config, preset = TrainConfig.from_preset(name), PRESETS[name]
    assert (config.height_px, config.width_px) == preset.input_size
    shared = {f.name for f in dataclasses.fields(config)} & {f.name for f in dataclasses.fields(preset)}
    assert shared >= {"epochs", "batch_size", "learning_rate", "augment", "validation_fraction", "patience"}
    assert all(getattr(config, key) == getattr(preset, key) for key in shared)


def test_what_the_user_says_comes_first_and_none_is_not_said():
    config = TrainConfig.from_preset("edge", input_size=(64, 96), epochs=3, batch_size=None, augment=False)
    assert (config.height_px, config.width_px, config.epochs, config.augment) == (64, 96, 3, False)
    assert config.batch_size == PRESETS["edge"].batch_size


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"height_px": 224, "width_px": 320}, (224, 320)),
        ({"height_px": 224}, (224, 256)),
        ({"width_px": 320, "input_size": (64, 64)}, (64, 320)),
        ({"input_size": (64, 96)}, (64, 96)),
    ],
)
def test_a_size_that_the_user_gives_by_any_name_is_not_chosen_from_the_data(changes, size):
    config = TrainConfig.from_preset("edge", **changes)
    assert (config.height_px, config.width_px) == size
    assert config.from_data == {"batch_size"}
    assert TrainConfig.from_preset("edge", batch_size=2, height_px=None).from_data == {"input_size"}


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(
        UsageError,
        match=r"^--preset big — no such preset — choose one of seed, classic, edge-nano, edge, edge-large, selfie, "
        "fcn, fcn-vgg16, segnet, segnet-vgg16, deeplab, deeplab-xception$",
    ):
        preset_named("big")
    with pytest.raises(UsageError, match="--preset big"):
        TrainConfig.from_preset("big")


@pytest.mark.parametrize(
    ("preset", "size", "message"),
    [
        ("edge", (100, 96), "100x96: height is 100 — preset 'edge' needs a multiple of 32 — use 96 or 128"),
        ("edge", (96, 100), "96x100: width is 100 — preset 'edge' needs a multiple of 32 — use 96 or 128"),
        ("edge", (31, 32), "31x32: height is 31 — preset 'edge' needs a multiple of 32 — use 32"),
        ("classic", (256, 0), "256x0: width is 0 — preset 'classic' needs a multiple of 16 — use 16"),
        ("seed", (255, 256), "255x256: height is 255 — preset 'seed' needs a multiple of 2 — use 254 or 256"),
    ],
)
def test_an_input_size_that_cannot_work_is_refused_with_the_nearest_that_can(preset, size, message):
    with pytest.raises(UsageError) as refused:
        TrainConfig.from_preset(preset, input_size=size)
    assert str(refused.value) == f"--input-size {message}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": (64, 100)}, "--crop 64x100: width is 100 — preset 'edge' needs a multiple of 32 — use 96 or 128"),
        (
            {"crop": (96, 64), "input_size": (64, 64)},
            "--crop 96x64 — the input is 64x64 — expected a part of it — choose a smaller --crop or a larger "
            "--input-size",
        ),
        (
            {"crop": (64, 64), "augment": False},
            "--crop 64x64 — with --no-augment, which shows whole images — leave one of them out",
        ),
    ],
)
def test_a_crop_that_cannot_work_is_refused(settings, message):
    with pytest.raises(UsageError) as refused:
        TrainConfig.from_preset("edge", **settings)
    assert str(refused.value) == message


def test_a_step_sees_the_crop_or_the_whole_input():
    assert TrainConfig.from_preset("edge", input_size=(64, 96)).step_size == (64, 96)
    assert TrainConfig.from_preset("edge", input_size=(64, 96), crop=(32, 64)).step_size == (32, 64)
    # An input size that is chosen later is compared then.
    assert TrainConfig.from_preset("edge", crop=(512, 512)).step_size == (512, 512)


def test_a_size_that_is_replaced_is_not_chosen_from_the_data():
    config = TrainConfig.from_preset("edge")
    assert config.from_data == {"input_size", "batch_size"}
    assert dataclasses.replace(config, batch_size=2).from_data == {"input_size"}
    assert dataclasses.replace(config, width_px=64).from_data == {"batch_size"}
    assert dataclasses.replace(config, epochs=3).from_data == {"input_size", "batch_size"}


@given(preset=st.sampled_from(list(PRESETS)), height_px=st.integers(0, 700))
def test_the_sizes_that_a_refusal_names_are_accepted_and_nearest(preset, height_px):
    stride = PRESETS[preset].shape.stride
    try:
        TrainConfig.from_preset(preset, input_size=(height_px, 4 * stride))
    except UsageError as refused:
        named = [int(word) for word in str(refused).rpartition(" use ")[2].split(" or ")]
        for size in named:
            TrainConfig.from_preset(preset, input_size=(size, 4 * stride))
            assert abs(size - height_px) < stride or height_px < stride
    else:
        assert height_px % stride == 0


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--epochs", "epochs"),
        ("--batch-size", "batch_size"),
        ("--learning-rate", "learning_rate"),
        ("--max-minutes", "max_minutes"),
    ],
)
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_number_that_is_not_positive_is_refused_by_its_option(option, key, value):
    with pytest.raises(UsageError, match=f"^{option} {value} — expected a positive number$"):
        TrainConfig.from_preset("edge", **{key: value})


def test_differences_name_what_changed_from_what_to_what():
    before = TrainConfig.from_preset("edge", epochs=3)
    now = TrainConfig.from_preset("edge", epochs=4, input_size=(256, 320))
    assert before.differences(before.to_dict()) == []
    assert now.differences(before.to_dict()) == ["width_px: 256 → 320", "epochs: 3 → 4"]
    old = {key: value for key, value in before.to_dict().items() if key != "patience"}
    assert before.differences(old) == ["patience: None → 20"]


@pytest.mark.parametrize("option", ["--patience", "--seed"])
def test_a_negative_count_is_refused_by_its_option(option):
    with pytest.raises(UsageError, match=f"^{option} -1 — expected 0 or more$"):
        TrainConfig.from_preset("edge", **{option.strip("-"): -1})
