"""Mask files to stored values: exact for every form, refused where values are lost."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from masks import COLORS, colored, encoded, paletted
from PIL import Image
from tiffs import tiff

from edge_runtime.dataset.mask_files import (
    MAX_VALUES,
    StoredMask,
    all_contents_of,
    contents_of,
    decode_mask,
    histogram,
    pack_color,
    read_mask,
    runs,
    unpack_color,
)
from edge_runtime.errors import InputError

IDS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def grey_png(rows, bits):
    """Write a greyscale PNG of so many bits a sample, by hand: no encoder here can."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].reshape(-1)).tobytes() for row in rows
    )
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [(".png", np.uint8), (".bmp", np.uint8), (".tiff", np.uint8), (".png", np.uint16), (".tiff", np.uint16)],
)
def test_grey_levels_are_kept(tmp_path, ending, dtype):
    ids = IDS.astype(dtype) * (300 if dtype == np.uint16 else 3)
    (tmp_path / f"m{ending}").write_bytes(encoded(ids, ending))
    mask = read_mask(tmp_path / f"m{ending}")
    assert (mask.form, mask.lossy, mask.values.dtype) == ("grey", False, dtype)
    assert np.array_equal(mask.values, ids)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_ids_as_they_are(bits):
    ids = (np.arange(15).reshape(3, 5) % 2**bits).astype(np.uint8)
    mask = decode_mask(grey_png(ids, bits), "m")
    assert mask.form == "grey"
    assert np.array_equal(mask.values, ids)


def test_one_bit_is_black_and_white():
    assert np.array_equal(decode_mask(grey_png(IDS % 2, 1), "m").values, IDS % 2 * 255)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_mask_gives_indices_not_colours(bits):
    ids = (np.arange(12).reshape(3, 4) % min(4, 2**bits)).astype(np.uint8)
    mask = decode_mask(paletted(ids, bits=bits), "m")
    assert mask.form == "palette"
    assert np.array_equal(mask.values, ids)
    assert [unpack_color(c) for c in mask.palette[: 2 ** min(bits, 2)]] == list(COLORS[: 2 ** min(bits, 2)])
    assert contents_of(mask).colors == {i: pack_color(COLORS[i]) for i in range(ids.max() + 1)}


def test_a_palette_of_greys_in_order_is_grey(tmp_path):
    Image.fromarray(IDS * 127).convert("P").save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.form == "grey"
    assert np.array_equal(mask.values, IDS * 127)


@pytest.mark.parametrize(("ending", "parameters"), [(".png", ()), (".bmp", ()), (".tiff", ()), (".webp", (64, 101))])
def test_colours_are_kept(ending, parameters):
    mask = decode_mask(encoded(NOISE, ending, *parameters), "m")
    assert (mask.form, mask.lossy, mask.values.dtype) == ("color", False, np.uint32)
    blue, green, red = np.moveaxis(NOISE.astype(np.uint32), 2, 0)
    assert np.array_equal(mask.values, red << 16 | green << 8 | blue)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_stored_as_colour_is_grey(channels):
    layers = [IDS] * 3 + [np.full_like(IDS, 255)] * (channels - 3)
    mask = decode_mask(encoded(np.dstack(layers)), "m")
    assert mask.form == "grey"
    assert np.array_equal(mask.values, IDS)


def test_one_pixel_of_another_colour_makes_a_colour_mask():
    layers = np.dstack([IDS] * 3)
    layers[0, 0, 0] = 1
    assert decode_mask(encoded(layers), "m").form == "color"
    layers[0, 0] = (0, 0, 1)
    assert decode_mask(encoded(layers), "m").values[0, 0] == 0x010000


def test_an_opaque_colour_mask_keeps_its_colours():
    opaque = np.dstack([NOISE, np.full(NOISE.shape[:2], 255, np.uint8)])
    assert np.array_equal(decode_mask(encoded(opaque), "m").values, decode_mask(encoded(NOISE), "m").values)


def test_transparent_pixels_are_refused():
    with pytest.raises(InputError, match=r"^m — has transparent pixels — expected an opaque mask"):
        decode_mask(encoded(np.dstack([IDS, IDS, IDS, IDS * 100])), "m")


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_sixteen_bit_colours_are_refused(ending):
    with pytest.raises(
        InputError, match=r"^m — uint16 of shape \(30, 40, 3\) — expected 8-bit ids or colours, or 16-bit"
    ):
        decode_mask(encoded(NOISE.astype(np.uint16) * 257, ending), "m")


@pytest.mark.parametrize(
    ("ending", "parameters", "kind"), [(".jpg", (), "JPEG"), (".webp", (cv2.IMWRITE_WEBP_QUALITY, 90), "WebP")]
)
def test_a_lossy_mask_is_refused_and_explained_or_marked(ending, parameters, kind):
    data = encoded(NOISE, ending, *parameters)
    with pytest.raises(InputError, match=f"^m — a {kind} mask: compression changes ids at the borders — expected PNG"):
        decode_mask(data, "m")
    mask = decode_mask(data, "m", allow_lossy=True)
    assert (mask.form, mask.lossy, mask.values.shape) == ("color", True, (30, 40))


def test_a_truncated_palette_mask_is_refused():
    data = paletted(np.arange(4000).reshape(40, 100) % 4)
    with pytest.raises(InputError, match="truncated or damaged PNG"):
        decode_mask(data[:-60], "m")


VALUES = st.one_of(
    arrays(np.uint8, (5, 7)),
    arrays(np.uint16, (5, 7)),
    arrays(np.uint32, (5, 7), elements=st.integers(0, 0xFFFFFF)),
    arrays(np.uint8, (4, 4), elements=st.integers(0, 1)),
)


@given(VALUES)
def test_runs_are_the_pixels(values):
    found, lengths = runs(values)
    assert np.array_equal(np.repeat(found, lengths), values.reshape(-1))


@given(VALUES)
def test_a_histogram_counts_every_pixel(values):
    form = "color" if values.dtype == np.uint32 else "grey"
    counts = histogram(StoredMask(values=values, form=form))
    expected = np.unique(values, return_counts=True)
    assert counts == dict(zip(expected[0].tolist(), expected[1].tolist(), strict=True))
    assert list(counts) == sorted(counts)


def test_contents_of_a_photograph_are_its_most_frequent_colours():
    noise = NOISE.copy()
    noise[0] = (1, 2, 3)
    mask = decode_mask(encoded(noise), "m")
    few, every = contents_of(mask), all_contents_of(mask)
    assert len(few.counts) == MAX_VALUES < len(every.counts)
    assert few.counts[0x030201] == every.counts[0x030201] >= 40
    assert list(few.counts) == sorted(few.counts)


def test_colours_of_classes_are_packed_and_unpacked():
    assert pack_color((1, 2, 255)) == 0x0102FF
    assert unpack_color(0x0102FF) == (1, 2, 255)
    assert decode_mask(colored(np.array([[1]])), "m").values.tolist() == [[pack_color(COLORS[1])]]


CLASSES = np.kron(np.array([[0, 1, 2], [3, 1, 0]]), np.ones((8, 10), int)).astype(np.uint8)


def pil(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def indexed(ids, colors=COLORS):
    image = Image.fromarray(ids).convert("P")
    image.frombytes(ids.tobytes())
    image.putpalette([value for color in colors for value in color])
    return image


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_palette_tiff_gives_indices_not_colours(compression):
    mask = decode_mask(pil(indexed(CLASSES), "TIFF", compression=compression), "m")
    assert mask.form == "palette"
    assert np.array_equal(mask.values, CLASSES)
    assert [unpack_color(c) for c in mask.palette[:4]] == list(COLORS[:4])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_palette_big_tiff_gives_indices_too(big, order):
    colors = np.zeros((3, 256), int)
    colors[:, :4] = np.array(COLORS[:4]).T * 257
    data = tiff(CLASSES, big=big, order=order, tags={262: [3], 320: colors.reshape(-1).tolist()})
    mask = decode_mask(data, "m")
    assert (mask.form, [unpack_color(c) for c in mask.palette[:4]]) == ("palette", list(COLORS[:4]))
    assert np.array_equal(mask.values, CLASSES)


def test_a_gif_gives_colours_because_programs_number_them_anew():
    mask = decode_mask(pil(indexed(CLASSES), "GIF"), "m")
    assert mask.form == "color"
    assert set(np.unique(mask.values)) == {pack_color(color) for color in COLORS[:4]}
    assert np.array_equal(mask.values == pack_color(COLORS[1]), CLASSES == 1)


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (0, 1, 2), (0, 5, 9)])
def test_a_gif_of_greys_gives_the_levels(levels):
    ids = np.array(levels, np.uint8)[CLASSES % len(levels)]
    mask = decode_mask(pil(Image.fromarray(ids), "GIF"), "m")
    assert mask.form == "grey"
    assert np.array_equal(mask.values, ids)


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000"])
def test_grey_levels_of_other_formats_are_kept(kind):
    mask = decode_mask(pil(Image.fromarray(CLASSES), kind), "m")
    assert (mask.form, mask.lossy) == ("grey", False)
    assert np.array_equal(mask.values, CLASSES)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pil(Image.fromarray(NOISE), "AVIF"), "AVIF"),
        (pil(Image.fromarray(NOISE), "JPEG2000", irreversible=True), "JPEG 2000"),
        (pil(Image.fromarray(NOISE), "TIFF", compression="jpeg"), "TIFF"),
    ],
)
def test_other_lossy_masks_are_refused_and_marked_too(data, kind):
    with pytest.raises(InputError, match=f"^m — a {kind} mask: compression changes ids at the borders — expected PNG"):
        decode_mask(data, "m")
    assert decode_mask(data, "m", allow_lossy=True).lossy


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "JPEG2000", "GIF"])
def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_one_refused(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    for alpha in (255, 254 if kind != "GIF" else 0):
        layers = np.dstack([CLASSES * 20, CLASSES, CLASSES, np.full_like(CLASSES, 255)])
        layers[0, 0, 3] = alpha
        data = pil(Image.fromarray(layers), kind, **options)
        if alpha == 255:
            assert decode_mask(data, "m").form == "color"
            continue
        with pytest.raises(InputError, match=r"^m — has transparent pixels"):
            decode_mask(data, "m")
