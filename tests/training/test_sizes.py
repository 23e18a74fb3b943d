import math
from dataclasses import replace

import numpy as np
import pytest
from datasets import png
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from training.config import TrainConfig
from training.data.check import check_dataset
from training.loop.sizes import (
    DETAIL_PX,
    MEMORY_SHARE,
    SizeFacts,
    ThinClass,
    choose_sizes,
    output_bytes_per_pixel,
    with_sizes,
)

FACTS = SizeFacts(
    image_sizes=[(360, 480)] * 367,
    stride=32,
    pixels=256 * 256,
    batch_size=8,
    output_bytes_per_pixel=567,
    parameters=1_600_000,
    memory_bytes=16 * 10**9,
)


def sizes(count=367, size=(360, 480), input_size=None, crop=None, batch_size=None, thickness_px=None, **changes):
    """Return the chosen sizes for so many images; ``thickness_px`` is that of the median class in them."""
    median_class = thickness_px and ThinClass("pole", thickness_px / math.sqrt(math.prod(size)))
    facts = replace(FACTS, image_sizes=[size] * count, median_class=median_class, **changes)
    return choose_sizes(facts, input_size=input_size, crop=crop, batch_size=batch_size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((360, 480), (224, 288), id="landscape"),
        pytest.param((480, 360), (288, 224), id="portrait"),
        pytest.param((3000, 4000), (224, 288), id="large"),
        pytest.param((500, 500), (256, 256), id="square"),
        pytest.param((150, 210), (128, 192), id="smaller than the preset's pixels"),
        pytest.param((20, 25), (32, 32), id="smaller than the stride"),
        pytest.param((100, 3000), (64, 1376), id="a long strip"),
    ],
)
def test_the_input_has_the_preset_s_pixels_in_the_shape_of_the_images(size, expected):
    found = sizes(size=size)
    assert (found.height_px, found.width_px) == expected


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), stride=st.sampled_from([4, 16, 32]))
def test_the_input_is_in_multiples_of_the_stride_and_no_larger_than_the_images(height, width, stride):
    found = sizes(size=(height, width), stride=stride, memory_bytes=10**12)
    for side, own in ((found.height_px, height), (found.width_px, width)):
        assert side % stride == 0
        assert stride <= side <= max(stride, own)
    if min(height, width) >= 256 and max(height, width) <= 2 * min(height, width):
        assert 0.7 < found.height_px * found.width_px / FACTS.pixels < 1.4
        assert 0.7 < found.height_px / found.width_px * width / height < 1.4


@pytest.mark.parametrize(
    ("size", "thickness_px", "expected", "crop"),
    [
        pytest.param((360, 480), 30, (224, 288), None, id="thick"),
        pytest.param((360, 480), 2.3, (320, 416), (224, 288), id="thin: as large as needed"),
        pytest.param(
            (1080, 1920), 3, (384, 672), (192, 352), id="thin in large images: four times the preset's pixels"
        ),
        pytest.param((192, 256), 0.9, (384, 512), (192, 256), id="thin in small images: twice as high and wide"),
        pytest.param((20, 25), 1, (32, 32), None, id="smaller than the stride"),
    ],
)
def test_thin_classes_get_a_larger_input_and_crops_of_the_preset_s_pixels(size, thickness_px, expected, crop):
    found = sizes(size=size, thickness_px=thickness_px)
    assert ((found.height_px, found.width_px), found.crop) == (expected, crop)
    assert ("'pole' is" in found.reasons[0]) == (crop is not None)


def test_a_crop_takes_the_memory_of_its_own_size():
    assert sizes(thickness_px=1, memory_bytes=2 * 10**9).batch_size == sizes(memory_bytes=2 * 10**9).batch_size
    with pytest.raises(UsageError, match=r"--crop 4096x4096 — training takes .* choose a smaller --crop$"):
        sizes(input_size=(8192, 8192), crop=(4096, 4096))


def test_an_input_size_of_the_user_s_is_not_cropped():
    found = sizes(input_size=(352, 480), thickness_px=1)
    assert (found.height_px, found.width_px, found.crop) == (352, 480, None)
    assert sizes(input_size=(352, 480), crop=(96, 96)).crop == (96, 96)
    assert sizes(crop=(96, 96), thickness_px=1).crop == (96, 96)


def test_memory_makes_the_batch_smaller_before_it_is_refused():
    found = [sizes(memory_bytes=gb * 10**9).batch_size for gb in (16, 2, 1)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 8 > found[-1] >= 1


def test_what_the_user_chose_stays():
    found = sizes(input_size=(64, 96), batch_size=3)
    assert (found.height_px, found.width_px, found.batch_size, found.reasons) == (64, 96, 3, ())


def test_not_one_picture_fits():
    text = (
        r"--batch-size 1 --input-size 4096x4096 — training takes about \d+\.\d GB — 16\.0 GB of memory are free — "
        "choose a smaller --input-size$"
    )
    with pytest.raises(UsageError, match=text) as raised:
        sizes(input_size=(4096, 4096))
    assert raised.value.exit_code == 2


def test_too_large_a_batch_is_told_the_largest_that_fits():
    with pytest.raises(
        UsageError, match=r"--batch-size 5000 --input-size 224x288 — .* choose --batch-size (\d+) or"
    ) as raised:
        sizes(batch_size=5000)
    room = int(str(raised.value).split("--batch-size ")[2].split()[0])
    assert sizes(batch_size=room).batch_size == room
    with pytest.raises(UsageError):
        sizes(batch_size=room + 1)
    assert 0 < MEMORY_SHARE < 1


def test_reasons_are_given_for_what_was_chosen():
    size, batch = sizes().reasons
    assert size == (
        "input size 224x288: the preset's 65,536 pixels in the shape of the images (360x480, their median), in "
        "multiples of 32"
    )
    assert batch.startswith("batch size 8: the preset's; 46 steps per epoch, about ")
    size, crop = sizes(thickness_px=1).reasons[:2]
    assert size == (
        "input size 448x576: 'pole' is 1.2 pixels thick there and would be 0.6 at 224x288; a frame takes "
        "about 4.0 times as long"
    )
    assert crop == "crop 224x288: the preset's 65,536 pixels; each step sees a random part of this size of each image"
    assert DETAIL_PX > 1.2
    assert "are no larger" in sizes(size=(150, 210)).reasons[0]
    assert "all that fits into the memory, the preset's is 8" in sizes(memory_bytes=10**9).reasons[1]
    assert len(sizes(input_size=(64, 64)).reasons) == len(sizes(batch_size=2).reasons) == 1


def test_bytes_of_all_layers_outputs_are_counted_also_of_a_model_in_a_model():
    import keras

    image = keras.Input((8, 16, 3))
    inner = keras.Sequential([keras.Input((4, 8, 5)), keras.layers.ReLU(), keras.layers.Conv2D(7, 1)])
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same")(image)
    model = keras.Model(image, keras.layers.UpSampling2D(2)(inner(x)))
    # Per input pixel: 3 of the input, 5/4 of the strided convolution, 5/4 and 7/4 inside, 7 of the upsampling.
    assert output_bytes_per_pixel(model) == 4 * (3 + 5 / 4 + 5 / 4 + 7 / 4 + 7)


@pytest.mark.parametrize(
    ("widths_px", "expected"),
    [
        pytest.param((1,), ((96, 160), (64, 96)), id="one class, thin"),
        pytest.param((20,), ((64, 96), None), id="one class, thick"),
        pytest.param((1, 12, 20), ((64, 96), None), id="one thin class of three"),
        pytest.param((1, 1, 20), ((96, 160), (64, 96)), id="two thin classes of three"),
    ],
)
def test_the_input_grows_with_the_class_of_median_thickness(empty_dataset, widths_px, expected):
    ids = np.zeros((64, 96), np.uint8)
    for class_id, width_px in enumerate(widths_px, start=1):
        ids[:, 30 * class_id - 25 : 30 * class_id - 25 + width_px] = class_id
    for i in range(3):
        empty_dataset.image(f"{i}.png", png(np.random.default_rng(i).integers(0, 256, (64, 96, 3), np.uint8)))
        empty_dataset.mask(f"{i}.png", png(ids))
    config, reasons = with_sizes(TrainConfig.from_preset("edge"), check_dataset(empty_dataset.root))
    assert ((config.height_px, config.width_px), config.crop) == expected
    assert (len(reasons) == 3) == (config.crop is not None)
    whole, _ = with_sizes(TrainConfig.from_preset("edge", augment=False), check_dataset(empty_dataset.root))
    assert ((whole.height_px, whole.width_px), whole.crop) == ((64, 96), None)
