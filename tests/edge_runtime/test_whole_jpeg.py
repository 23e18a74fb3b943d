"""JPEG files that are whole, whatever follows them, and files that end before their last row."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import InputError
from edge_runtime.headers.jpeg import jpeg_end
from edge_runtime.image import decode, read_image

RNG = np.random.default_rng(7)
PHOTO = np.clip(
    cv2.resize(RNG.integers(0, 256, (16, 20, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC).astype(int)
    + RNG.integers(-9, 10, (240, 320, 3)),
    0,
    255,
).astype(np.uint8)
BARS = PHOTO.copy()
BARS[150:] = 0
FLAT = np.full_like(PHOTO, 128)
KINDS = {
    "baseline": {},
    "optimised": {"optimize": True},
    "finest": {"quality": 100, "subsampling": 0},
    "restarts": {"restart_marker_blocks": 5},
    "progressive": {"progressive": True},
    "progressive, finest": {"progressive": True, "quality": 100, "subsampling": 0},
    "progressive, restarts": {"progressive": True, "restart_marker_rows": 1},
}
PICTURES = {
    "photo": PHOTO,
    "grey": PHOTO[..., 0],
    "odd": PHOTO[:233, :301],
    "bars": BARS,
    "flat": FLAT,
    "tiny": PHOTO[:1],
}


def jpeg(pixels, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


THUMBNAIL = jpeg(PHOTO[:60, :80])
EXIF = b"\xff\xe1" + (len(THUMBNAIL) + 8).to_bytes(2) + b"Exif\0\0" + THUMBNAIL
BEHIND = {
    "nothing": b"",
    "a video": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 400,
    "padding": bytes(70_000),
    "line breaks": b"\r\n" * 1000,
    "another picture": jpeg(PHOTO[::-1]),
    "end markers": b"\xff\xd9" * 5,
    "a picture that is cut": jpeg(PHOTO[::-1])[:2000],
}


def shown(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", PICTURES)
def test_what_is_behind_the_end_of_a_picture_changes_nothing(kind, picture, capfd):
    data = jpeg(PICTURES[picture], **KINDS[kind])
    for behind in BEHIND.values():
        assert np.array_equal(decode(data + behind, "a"), shown(data))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_fill_bytes_comments_and_thumbnails_change_nothing(kind, tmp_path):
    data = jpeg(PHOTO, **KINDS[kind])
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    for odd in (data[:-2] + b"\xff\xff" + data[-2:], data[:-2] + comment + data[-2:], data[:2] + EXIF + data[2:]):
        (tmp_path / "a.jpg").write_bytes(odd + BEHIND["a video"])
        assert np.array_equal(read_image(tmp_path / "a.jpg"), shown(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("behind", ["nothing", "a video", "another picture"])
def test_a_cut_picture_is_refused_though_an_end_marker_is_put_behind_it(kind, share, behind):
    data = jpeg(PHOTO, **KINDS[kind])
    cut = data[: int(len(data) * share)].rstrip(b"\xff")
    with pytest.raises(InputError, match=r"^a — truncated"):
        decode(cut + b"\xff\xd9" + BEHIND[behind], "a")
    with pytest.raises(InputError, match=r"^a — truncated"):
        decode(cut + BEHIND[behind], "a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_thumbnail_or_mask_is_refused_too(kind):
    data = jpeg(PHOTO, **KINDS[kind])
    with pytest.raises(InputError, match=r"^a — truncated"):
        decode(data[:2] + EXIF + data[2 : len(data) // 2] + b"\xff\xd9", "a", mode="raw")


def test_a_progressive_picture_without_its_last_scans_is_refused():
    data = jpeg(PHOTO, progressive=True)
    end = jpeg_end(data)
    with pytest.raises(InputError, match=r"^a — truncated JPEG \(scans are missing\)"):
        decode(data[: end.last_scan] + b"\xff\xd9", "a")


def test_the_end_of_a_picture_is_where_its_data_end():
    data = jpeg(PHOTO, restart_marker_blocks=3)
    end = jpeg_end(data + BEHIND["another picture"])
    assert (end.data_end, end.one_scan, end.complete) == (len(data) - 2, True, True)
    end = jpeg_end(jpeg(PHOTO, progressive=True))
    assert (end.one_scan, end.complete) == (False, True)
    assert jpeg_end(data[:-2]) is None
    assert jpeg_end(b"\xff\xd8\xff\xd9") is None
