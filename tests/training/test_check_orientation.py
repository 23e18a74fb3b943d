import numpy as np
import pytest
from datasets import jpeg, png
from faults import with_orientation
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.image import decode
from training.data.check.orientation import exif_orientation

IMAGE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_every_format_is_what_the_decoder_turns_by(kind, orientation):
    data = with_orientation(IMAGE, kind, orientation)
    assert exif_orientation(data) == orientation
    assert (decode(data, "a").shape[:2] == (30, 20)) == (orientation >= 5)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_in_either_byte_order(order):
    little = order == "II"
    number = lambda value, size: value.to_bytes(size, "little" if little else "big")  # noqa: E731
    tiff = order.encode() + number(42, 2) + number(8, 4) + number(1, 2)
    tiff += number(0x112, 2) + number(3, 2) + number(1, 4) + number(6, 2) + bytes(6)
    segment = b"Exif\0\0" + tiff
    assert exif_orientation(b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment) == 6


def test_is_1_where_there_is_none():
    assert exif_orientation(jpeg(IMAGE)) == exif_orientation(png(IMAGE)) == exif_orientation(b"BM" + bytes(60)) == 1


def test_of_a_webp_is_found_behind_a_chunk_of_odd_length():
    data = with_orientation(IMAGE, "WEBP", 6)
    place = data.index(b"EXIF")
    odd = b"ODD!" + (3).to_bytes(4, "little") + b"abc\0"
    assert exif_orientation(data[:place] + odd + data[place:]) == 6


@given(st.data())
def test_of_damaged_bytes_is_still_an_orientation(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF"]))
    whole = bytearray(with_orientation(IMAGE, kind, 6))
    for place in data.draw(st.lists(st.integers(0, min(len(whole) - 1, 200)), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    assert 1 <= exif_orientation(bytes(whole[: data.draw(st.integers(0, len(whole)))])) <= 8
