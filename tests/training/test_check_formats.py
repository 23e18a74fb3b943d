"""What a check says about the formats of images and masks: what is dropped, what is not read, and nothing of the rest."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from datasets import jpeg, png, squares
from PIL import Image
from tiffs import tiff

from training.data.check import check_dataset

IMAGE, IDS = squares(99)
RGB = np.ascontiguousarray(IMAGE[..., ::-1])
GREY = RGB[..., 0]
ALPHA = np.where(np.indices(GREY.shape)[0] < 9, 40, 255).astype(np.uint8)
OPAQUE = np.full_like(ALPHA, 255)


def pil(pixels, kind, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def checked(dataset, name, image, mask_name="a.png", mask=None):
    """Return the problems of a dataset after a pair was added to it, as (code, file name, message)."""
    dataset.image(name, image)
    dataset.mask(mask_name, png(IDS) if mask is None else mask)
    return [(p.code, p.file.rpartition("/")[2], p.message) for p in check_dataset(dataset.root).problems]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.png", lambda alpha: pil(np.dstack([RGB, alpha]), "PNG")),
        ("a.webp", lambda alpha: pil(np.dstack([RGB, alpha]), "WEBP", lossless=True)),
        ("a.tif", lambda alpha: tiff(np.dstack([RGB, alpha]), extra=2)),
        ("a.tiff", lambda alpha: tiff(np.dstack([RGB, alpha]), extra=0, big=True)),
        ("a.tif", lambda alpha: tiff(np.dstack([GREY, alpha]))),
        ("a.jp2", lambda alpha: pil(np.dstack([RGB, alpha]), "JPEG2000")),
        ("a.avif", lambda alpha: pil(np.dstack([RGB, alpha]), "AVIF")),
        ("a.bmp", lambda alpha: cv2.imencode(".bmp", np.dstack([IMAGE, alpha]))[1].tobytes()),
    ],
)
def test_a_dropped_channel_is_a_warning_only_if_it_says_something(dataset, name, make):
    ((code, file, message),) = checked(dataset, name, make(ALPHA))
    assert (code, file) == ("alpha_image", name)
    assert "bands — the last one is not used" in message or "an alpha channel — it is dropped" in message
    dataset.image(name, make(OPAQUE))
    assert check_dataset(dataset.root).problems == ()


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_several_pages_or_frames_are_a_warning_with_their_number(dataset, name):
    pictures = [Image.fromarray(np.roll(RGB, 7 * i, axis=1)) for i in range(3)]
    out = io.BytesIO()
    kind = {"a.tif": "TIFF", "a.gif": "GIF", "a.webp": "WEBP", "a.png": "PNG"}[name]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
    ((code, file, message),) = checked(dataset, name, out.getvalue())
    assert (code, file) == ("several_pages", name)
    assert "has 3 pages or frames — only the first is used — save the others as files of their own" in message


def test_several_pages_of_a_mask_are_a_warning_too(dataset):
    ((code, file, _),) = checked(dataset, "a.png", png(IMAGE), "a.tif", tiff(IDS, IDS, big=True))
    assert (code, file) == ("several_pages", "a.tif")


def test_a_second_band_of_a_mask_is_a_warning_if_it_says_something(dataset):
    ((code, file, message),) = checked(dataset, "a.png", png(IMAGE), "a.tif", tiff(np.dstack([IDS, ALPHA])))
    assert (code, file) == ("alpha_mask", "a.tif")
    assert "has 2 bands" in message
    dataset.mask("a.tif", tiff(np.dstack([IDS, OPAQUE])))
    assert check_dataset(dataset.root).problems == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(GREY.astype(np.float32)), "samples are float32, 1 a pixel — expected 8-bit"),
        (tiff(RGB.astype(np.int32)), "samples are int32, 3 a pixel — expected 8-bit"),
        (tiff(RGB.astype(np.uint32), big=True), "samples are uint32, 3 a pixel — expected 8-bit"),
        (tiff(np.dstack([RGB, RGB])), "TIFF with 6 bands, which is not read — save it as an 8-bit PNG"),
        (tiff(RGB, tags={259: [34925]}), "TIFF with LZMA compression, which is not read"),
    ],
)
def test_other_samples_and_bands_are_no_damage(dataset, data, message):
    ((code, file, found),) = checked(dataset, "a.tif", data)
    assert (code, file) == ("sample_format", "a.tif")
    assert message in found
    assert "damaged" not in found


def test_a_mask_of_other_samples_says_what_they_are(dataset):
    ((code, _, message),) = checked(dataset, "a.png", png(IMAGE), "a.tif", tiff(IDS.astype(np.float32)))
    assert code == "bad_mask"
    assert "float32 of shape" in message


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_cut_jpeg_with_an_end_marker_is_damaged(dataset, options):
    data = pil(RGB, "JPEG", quality=95, **options)
    ((code, _, message),) = checked(dataset, "a.jpg", data[: len(data) * 2 // 3] + b"\xff\xd9")
    assert code == "damaged_file"
    assert "truncated" in message


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_with_a_video_behind_it_is_fine(dataset, options):
    data = pil(RGB, "JPEG", **options) + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 400
    assert checked(dataset, "a.jpg", data) == []


IMAGES = {
    "a.jfif": jpeg(IMAGE),
    "a.JPE": jpeg(IMAGE),
    "a.jp2": pil(RGB, "JPEG2000"),
    "a.avif": pil(RGB, "AVIF"),
    "a.ppm": pil(RGB, "PPM"),
    "a.gif": pil(RGB, "GIF"),
    "a.dib": pil(RGB, "BMP"),
    "a.tif": tiff(RGB, big=True),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_another_format_is_used(dataset, name):
    assert checked(dataset, name, IMAGES[name]) == []
    assert check_dataset(dataset.root).images_with[0] == 4


@pytest.mark.parametrize(("ending", "kind"), [(".gif", "GIF"), (".pgm", "PPM"), (".jp2", "JPEG2000"), (".tif", "TIFF")])
def test_black_and_white_masks_of_any_format_are_used(empty_dataset, ending, kind):
    for i in range(3):
        image_bgr, ids = squares(i)
        empty_dataset.image(f"{i}.jpg", jpeg(image_bgr))
        empty_dataset.mask(f"{i}{ending}", pil(np.where(ids, 255, 0).astype(np.uint8), kind))
    report = check_dataset(empty_dataset.root)
    assert (report.ok, report.encoding, report.problems) == (True, "binary", ())
    assert report.pixels.tolist()[1] == sum(np.count_nonzero(squares(i)[1]) for i in range(3))


def test_opencv_writes_nothing_on_stderr(dataset):
    dataset.image("a.tif", tiff(GREY.astype(np.float32)))
    dataset.image("b.tif", tiff(np.dstack([RGB, RGB])))
    dataset.image("c.gif", pil(RGB, "GIF")[:-200])
    dataset.image("d.jpg", jpeg(IMAGE)[:-200] + b"\xff\xd9")
    for name in "abcd":
        dataset.mask(f"{name}.png", png(IDS))
    command = [sys.executable, "-m", "edge_runtime", "data", "check", str(dataset.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert not [line for line in done.stderr.splitlines() if "opencv" in line.lower() or "Corrupt" in line]
