"""What the bytes of an image file say, against what the decoder makes of them."""

import cv2
import exif
import numpy as np
import pytest
from colors import color_scene
from exif import BYTE, LONG, SHORT, block
from faults import with_orientation
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.headers import exif_orientation, oriented, read_header
from edge_runtime.image import decode

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
KINDS = ["JPEG", "PNG", "WEBP", "TIFF"]
XMP = exif.segment(b"http://ns.adobe.com/xap/1.0/\0<x/>")
"""The other thing that a JPEG keeps in an APP1 segment: XMP."""


def turned_by(data, stored=IMAGE):
    """Return the orientation by which OpenCV turns a file, from the pixels that it gives."""
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if (
        data.startswith(b"\xff\xd8") or data[4:8] == b"ftyp"
    ):  # whose pixels are not those that were encoded; TIFF ignores the flag
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return next(o for o in range(1, 9) if np.array_equal(oriented(stored, o), shown))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_every_format_is_what_the_decoder_turns_by(kind, orientation):
    data = with_orientation(IMAGE, kind, orientation)
    assert exif_orientation(data) == orientation
    assert (decode(data, "a").shape[:2] == (30, 20)) == (orientation >= 5)


def test_pixels_are_turned_as_the_names_of_the_orientations_say():
    corner = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    turned = {o: oriented(corner, o).tolist() for o in range(1, 9)}
    assert turned == {
        1: [[1, 2, 3], [4, 5, 6]],
        2: [[3, 2, 1], [6, 5, 4]],  # mirrored left to right
        3: [[6, 5, 4], [3, 2, 1]],  # half a turn
        4: [[4, 5, 6], [1, 2, 3]],  # upside down
        5: [[1, 4], [2, 5], [3, 6]],  # rows become columns
        6: [[4, 1], [5, 2], [6, 3]],  # a quarter turn clockwise
        7: [[6, 3], [5, 2], [4, 1]],
        8: [[3, 6], [2, 5], [1, 4]],  # a quarter turn the other way
    }
    assert oriented(IMAGE, 6).shape == (30, 20, 3)


BLOCK_FORMATS = {"JPEG": exif.jpeg, "PNG": exif.png, "WebP": exif.webp, "AVIF": exif.avif}
UNUSUAL = {
    **{
        f"{name}, {order}, type {kind}": make(IMAGE, block(6, order, kind))
        for name, make in BLOCK_FORMATS.items()
        for order in "<>"
        for kind in (BYTE, SHORT, LONG)
    },
    **{
        f"TIFF, {order}, type {kind}": exif.tiff(IMAGE, 6, order, kind)
        for order in "<>"
        for kind in (BYTE, SHORT, LONG)
    },
    **{
        f"{name}, {order}, value {value}": make(IMAGE, block(value, order))
        for name, make in BLOCK_FORMATS.items()
        for order in "<>"
        for value in (0, 9, 0x600, 65535)
    },
    **{f"TIFF, {order}, value {value}": exif.tiff(IMAGE, value, order) for order in "<>" for value in (0, 9, 65535)},
    "JPEG, a LONG of which 16 bits are an orientation": exif.jpeg(IMAGE, block(0x10006, kind=LONG)),
    "TIFF, a LONG of which 16 bits are an orientation": exif.tiff(IMAGE, 0x10006, kind=LONG),
    "TIFF, two orientations": exif.tiff(IMAGE, 6, count=2),
    "JPEG, one fill byte": exif.jpeg(IMAGE, block(6), before=b"\xff"),
    "JPEG, five fill bytes": exif.jpeg(IMAGE, block(6), before=b"\xff" * 5),
    "JPEG, XMP first": exif.jpeg(IMAGE, block(6), before=XMP),
    "JPEG, XMP first, fill bytes around it": exif.jpeg(IMAGE, block(6), before=b"\xff" + XMP + b"\xff\xff"),
    "JPEG, an empty segment first": exif.jpeg(IMAGE, block(6), before=exif.segment(b"")),
    "JPEG, a marker without a length first": exif.jpeg(IMAGE, block(6), before=b"\xff\x01\xff\xd0"),
    "JPEG, bytes of nothing between segments": exif.jpeg(IMAGE, block(6), before=exif.segment(b"abc", 0xFE) + b"\0\0"),
    "JPEG, two EXIF segments": exif.jpeg(IMAGE, block(3), before=exif.segment(b"Exif\0\0" + block(8))),
    "JPEG, another magic number": exif.jpeg(IMAGE, block(6, magic=43)),
    "JPEG, no byte order": exif.jpeg(IMAGE, b"XX" + block(6)[2:]),
    "JPEG, an offset at the very end": exif.jpeg(IMAGE, block(6)[:4] + b"\xff\xff\xff\xff"),
    "PNG, behind the pixels": exif.png(IMAGE, block(6), late=True),
    "PNG, a wrong checksum": exif.png(IMAGE, block(6), damaged=True),
    "PNG, with the head of a JPEG's": exif.png(IMAGE, b"Exif\0\0" + block(6)),
    "WebP, with the head of a JPEG's": exif.webp(IMAGE, b"Exif\0\0" + block(6)),
    "WebP, behind a chunk of odd length": exif.webp(IMAGE, block(6), before=exif.riff_chunk(b"ODD!", b"abc")),
    "WebP, a header that does not announce it": exif.webp(IMAGE, block(6), announced=False),
    "the tag twice": exif.jpeg(IMAGE, exif.directory([(exif.ORIENTATION, SHORT, 1, v) for v in (8, 3)])),
    "the tag twice, first nonsense": exif.jpeg(
        IMAGE, exif.directory([(exif.ORIENTATION, SHORT, 1, v) for v in (9, 3)])
    ),
    **{
        f"{name}, cut after {n} bytes": make(IMAGE, block(6)[:n])
        for name, make in BLOCK_FORMATS.items()
        if name != "AVIF"  # OpenCV writes only whole blocks
        for n in range(50)
    },
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_the_orientation_of_an_unusual_file_is_what_the_decoder_turns_by(case):
    assert exif_orientation(UNUSUAL[case]) == turned_by(UNUSUAL[case])


@pytest.mark.parametrize("case", [case for case in UNUSUAL if "JPEG" in case or "TIFF" in case])
def test_the_size_in_the_header_of_an_unusual_file_is_that_of_its_stored_pixels(case):
    header = read_header(UNUSUAL[case], "a")
    assert (header.height_px, header.width_px) == (20, 30)


def test_the_unusual_files_are_turned_and_not_turned():
    """Or the tests above would compare 1 with 1."""
    found = [turned_by(data) for data in UNUSUAL.values()]
    assert {1, 6, 8} <= set(found)
    assert found.count(6) > 60


def test_there_is_none_in_a_file_without():
    assert exif_orientation(b"") == exif_orientation(b"BM" + bytes(60)) == 1
    for ending in (".jpg", ".png", ".webp", ".tiff", ".bmp"):
        assert exif_orientation(cv2.imencode(ending, color_scene())[1].tobytes()) == 1


@given(st.data())
@settings(max_examples=200)
def test_of_damaged_bytes_it_is_still_an_orientation(data):
    kind = data.draw(st.sampled_from(KINDS))
    whole = bytearray(with_orientation(IMAGE, kind, 6))
    for place in data.draw(st.lists(st.integers(0, min(len(whole) - 1, 200)), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    assert 1 <= exif_orientation(bytes(whole[: data.draw(st.integers(0, len(whole)))])) <= 8
