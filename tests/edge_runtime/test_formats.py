"""Every format of image files that is decoded, to the right pixels; every other one by its name."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from tiffs import tiff

from edge_runtime.errors import InputError
from edge_runtime.headers import FORMATS, IMAGE_SUFFIXES, UNREAD_FORMATS, exif_orientation, pictures_in, read_header
from edge_runtime.image import decode, image_files, is_animation, is_opaque, read_image

RGB = cv2.resize(
    np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC
)
BGR = RGB[..., ::-1]
GREY = RGB[..., 0]
ALPHA = np.where(np.arange(48)[:, None] < 10, 99, 255).astype(np.uint8) * np.ones((1, 64), np.uint8)


def pil(pixels, kind, **options):
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **options)
    return out.getvalue()


def text(kind, head, values):
    return f"P{kind}\n# by hand\n64 48\n{head}".encode() + " ".join(map(str, values.reshape(-1).tolist())).encode()


EXACT = {
    ".png": pil(RGB, "PNG"),
    ".bmp": pil(RGB, "BMP"),
    ".dib": pil(RGB, "BMP"),
    ".webp": pil(RGB, "WEBP", lossless=True),
    ".tif": pil(RGB, "TIFF"),
    ".jp2": pil(RGB, "JPEG2000"),
    ".j2k": pil(RGB, "JPEG2000", no_jp2=True),
    ".ppm": pil(RGB, "PPM"),
    ".pnm": text(3, "255\n", RGB),
    ".gif": pil(Image.fromarray((RGB // 128) * 255).quantize(8), "GIF"),
    ".pgm": text(2, "255\n", GREY),
    ".pbm": pil(Image.fromarray(GREY > 99), "PPM"),
}
SHOWN = {
    ".gif": (BGR // 128) * 255,
    ".pgm": np.dstack([GREY] * 3),
    ".pbm": np.dstack([(GREY > 99).astype(np.uint8) * 255] * 3),
}


@pytest.mark.parametrize("ending", EXACT)
def test_a_format_without_loss_is_decoded_to_its_pixels(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(EXACT[ending])
    assert image_files(tmp_path) == [path]
    assert np.array_equal(read_image(path), SHOWN.get(ending, BGR))
    header = read_header(EXACT[ending], "a")
    assert (header.height_px, header.width_px, header.unread, header.alpha) == (48, 64, None, False)
    assert exif_orientation(EXACT[ending]) == pictures_in(EXACT[ending]) == 1


@pytest.mark.parametrize(
    ("ending", "kind"), [(".jfif", "JPEG"), (".jpe", "JPEG"), (".avif", "AVIF"), (".webp", "WEBP")]
)
def test_a_format_with_loss_is_decoded_to_nearly_its_pixels(tmp_path, ending, kind):
    (tmp_path / f"a{ending}").write_bytes(pil(RGB, kind, quality=90))
    assert np.abs(read_image(tmp_path / f"a{ending}").astype(int) - BGR).mean() < 6
    assert read_header(pil(RGB, kind), "a").height_px == 48


@pytest.mark.parametrize("ending", [*EXACT, ".avif"])
def test_a_cut_file_of_any_format_is_refused(ending):
    data = EXACT.get(ending) or pil(RGB, "AVIF")
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(InputError, match=r"^a — "):
            decode(data[: int(len(data) * share)], "a")


def test_every_ending_belongs_to_one_format():
    endings = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(endings) == len(set(endings)) == len(IMAGE_SUFFIXES)
    assert not IMAGE_SUFFIXES & set(UNREAD_FORMATS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\x93NUMPY\1\0", "NumPy"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"v/1\x01", "OpenEXR"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_the_remedy(data, kind):
    with pytest.raises(
        InputError, match=rf"^a — not read \({kind} data\) — expected JPEG, .* — convert it to PNG or JPEG"
    ):
        decode(data + bytes(50), "a")


def frames(kind, **options):
    pictures = [Image.fromarray(np.roll(RGB, 9 * i, axis=1)) for i in range(3)]
    out = io.BytesIO()
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], **options)
    return out.getvalue()


SEVERAL = {
    "TIFF": tiff(RGB, RGB[::-1], GREY),
    "BigTIFF": tiff(RGB, RGB[::-1], GREY, big=True, order=">"),
    "PNG": frames("PNG"),
    "WebP": frames("WEBP", lossless=True),
    "GIF": frames("GIF"),
    "AVIF": frames("AVIF"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_pages_and_frames_are_counted_and_the_first_is_decoded(kind):
    data = SEVERAL[kind]
    assert pictures_in(data) == 3
    difference = np.abs(decode(data, "a").astype(int) - BGR)
    assert difference.max() == 0 if "GIF" not in kind and kind != "AVIF" else difference.mean() < 12
    for cut in range(0, len(data), max(1, len(data) // 50)):
        assert pictures_in(data[:cut] or b"x") >= 1


def test_overviews_of_a_page_are_no_pages():
    overview = tiff(RGB[::2, ::2].copy(), tags={254: [1]})
    assert pictures_in(overview) == 1
    both = bytearray(tiff(RGB, GREY))
    assert pictures_in(bytes(both)) == 2
    # Of the second page, the tag of the compression becomes that of the kind of page, and its 1 a smaller copy.
    second = both.rindex(b"\x03\x01\x03\x00")
    both[second : second + 2] = b"\xfe\x00"
    assert pictures_in(bytes(both)) == 1


def test_a_chain_of_pages_that_leads_back_ends():
    data = bytearray(tiff(RGB))
    data[-4:] = data[4:8]
    assert pictures_in(bytes(data)) == 1


def test_a_gif_of_several_pictures_is_a_video(tmp_path):
    (tmp_path / "a.gif").write_bytes(SEVERAL["GIF"])
    (tmp_path / "b.gif").write_bytes(EXACT[".gif"])
    assert [is_animation(tmp_path / name) for name in ("a.gif", "b.gif", "none.gif")] == [True, False, False]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pixels", [RGB, GREY], ids=["colour", "grey"])
def test_tiff_and_big_tiff_are_decoded(order, big, pixels):
    data = tiff(pixels, order=order, big=big)
    assert np.array_equal(decode(data, "a"), BGR if pixels.ndim == 3 else np.dstack([GREY] * 3))
    header = read_header(data, "a")
    assert (header.kind, header.height_px, header.width_px, header.bit_depth) == ("TIFF", 48, 64, 8)
    assert header.channels == (3 if pixels.ndim == 3 else 1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_a_compressed_tiff_is_decoded(compression):
    assert np.array_equal(decode(pil(RGB, "TIFF", compression=compression), "a"), BGR)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw"])
def test_a_tiff_of_one_bit_is_decoded(compression):
    image = decode(pil(Image.fromarray(GREY > 99), "TIFF", compression=compression), "a")
    assert np.array_equal(image, SHOWN[".pbm"])


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "i2", "i4", "u4"])
@pytest.mark.parametrize("pixels", [RGB, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("big", [False, True])
def test_samples_of_another_kind_are_named(kind, pixels, big, capfd):
    dtype = np.dtype(kind)
    with pytest.raises(InputError, match=f"^a — samples are {dtype}, {pixels.ndim * 2 - 3} a pixel — expected 8-bit"):
        decode(tiff((pixels // 2).astype(dtype), big=big), "a")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(np.dstack([RGB, GREY, GREY])), "5 bands"),
        (tiff(np.dstack([RGB, RGB]), big=True), "6 bands"),
        (tiff(RGB, tags={262: [1]}), "3 bands of 8 bits that are not marked as colours"),
        (tiff(np.dstack([RGB, GREY]), tags={262: [1]}), "4 bands of 8 bits that are not marked as colours"),
        (tiff(RGB[..., :2].astype(np.uint16)), "2 bands of 16 bits that are not marked as colours"),
        (tiff(RGB.astype(np.float16)), "float samples of 16 bits"),
        (tiff(RGB.astype(np.complex64)), "complex float samples of 64 bits"),
        (tiff(GREY, tags={256: [16], 258: [4]}), "uint samples of 4 bits"),
        (tiff(GREY, tags={256: [42], 258: [12]}), "uint samples of 12 bits"),
        (tiff(RGB, tags={259: [50000]}), "Zstandard compression"),
        (tiff(RGB, tags={259: [99]}), "unknown compression"),
        (tiff(RGB, tags={262: [32803]}), "photometric interpretation 32803"),
    ],
)
@pytest.mark.parametrize("mode", ["image", "raw"])
def test_what_opencv_cannot_read_or_reads_wrongly_in_a_tiff_is_named(data, what, mode, capfd):
    with pytest.raises(InputError, match=f"^a — TIFF with {what}, which is not read — save it as an 8-bit PNG"):
        decode(data, "a", mode=mode)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"P5\n64 48\n31\n" + (GREY // 8).tobytes(), "values up to 31, not 255"),
        (text(2, "3\n", GREY // 64), "values up to 3, not 255"),
        (b"P5\n64 48\n65535\n" + GREY.astype(">u2").tobytes(), "values up to 65535, not 255"),
    ],
)
def test_a_pnm_that_opencv_scales_in_its_own_way_is_named(data, what):
    with pytest.raises(InputError, match=f"^a — PNM with {what}, which is not read — save it as an 8-bit PNG"):
        decode(data, "a")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_avif_whose_rotation_opencv_leaves_out_is_named(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation  # which Pillow turns into a rotation of the container
    with pytest.raises(InputError, match=r"^a — AVIF with a rotation or mirroring outside EXIF"):
        decode(pil(RGB, "AVIF", exif=exif), "a")


def rgba(alpha):
    return np.dstack([RGB, alpha])


def bmp(alpha, masks=()):
    """Return a BMP of 32 bits; masks say where its colours and its alpha channel are."""
    pixels = np.dstack([BGR, alpha])[::-1].tobytes()
    head = np.array([108 if masks else 40, 64, 48, 1 | 32 << 16, 3 if masks else 0, len(pixels), 0, 0, 0, 0], "<u4")
    head = head.tobytes() + (np.array(masks, "<u4").tobytes() + bytes(52) if masks else b"")
    return (
        b"BM"
        + b"".join(n.to_bytes(4, "little") for n in (14 + len(head) + len(pixels), 0, 14 + len(head)))
        + head
        + pixels
    )


WITH_ALPHA = {
    "PNG": lambda alpha: pil(rgba(alpha), "PNG"),
    "grey PNG": lambda alpha: pil(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]), "PNG"),
    "lossless WebP": lambda alpha: pil(rgba(alpha), "WEBP", lossless=True),
    "WebP": lambda alpha: pil(rgba(alpha), "WEBP"),
    "TIFF": lambda alpha: tiff(rgba(alpha), extra=2),
    "TIFF, near infrared": lambda alpha: tiff(rgba(alpha), extra=0),
    "BigTIFF": lambda alpha: tiff(rgba(alpha), extra=1, big=True),
    "JPEG 2000": lambda alpha: pil(rgba(alpha), "JPEG2000"),
    "AVIF": lambda alpha: pil(rgba(alpha), "AVIF"),
    "BMP": lambda alpha: bmp(alpha, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "grey TIFF": lambda alpha: tiff(np.dstack([GREY, alpha]), extra=2, big=True),
    "grey TIFF, compressed": lambda alpha: pil(
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]), "TIFF", compression="tiff_lzw"
    ),
    "palette PNG": lambda alpha: pil(
        Image.fromarray((alpha != 255).astype(np.uint8)).convert("P"), "PNG", transparency=1
    ),
    "grey PNG, one level": lambda alpha: pil(np.where(alpha == 255, 3, 7).astype(np.uint8), "PNG", transparency=7),
    "GIF": lambda alpha: pil(Image.fromarray((alpha != 255).astype(np.uint8), "L"), "GIF", transparency=1),
}


@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_only_transparent_pixels_make_a_file_transparent(kind):
    see_through = WITH_ALPHA[kind](ALPHA)
    header = read_header(see_through, "a")
    assert header.alpha
    assert not is_opaque(see_through, header)
    opaque = WITH_ALPHA[kind](np.full_like(ALPHA, 255))
    assert is_opaque(opaque, read_header(opaque, "a"))


@pytest.mark.parametrize("value", [0, 255])
def test_a_bmp_of_32_bits_without_an_alpha_mask_is_opaque(value):
    data = bmp(np.full((48, 64), value, np.uint8))
    assert np.array_equal(decode(data, "a"), BGR)
    assert not read_header(data, "a").alpha


def top_down(data):
    return data[:22] + (-48).to_bytes(4, "little", signed=True) + data[26:]


UNUSUAL = {
    "garbage behind a PNG": (EXACT[".png"] + b"garbage" * 99, BGR),
    "a PNG of one bit": (pil(Image.fromarray(GREY > 99), "PNG"), SHOWN[".pbm"]),
    "a palette PNG": (pil(Image.fromarray(RGB // 128 * 255).quantize(8), "PNG"), SHOWN[".gif"]),
    "a palette TIFF": (pil(Image.fromarray(RGB // 128 * 255).quantize(8), "TIFF"), SHOWN[".gif"]),
    "a BMP from top to bottom": (top_down(EXACT[".bmp"]), BGR[::-1]),
    "a TIFF whose white is zero": (tiff(255 - GREY, tags={262: [0]}), SHOWN[".pgm"]),
    "a CMYK TIFF": (pil(Image.fromarray(RGB).convert("CMYK"), "TIFF"), BGR),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_an_unusual_file_is_decoded_to_its_pixels(case):
    data, expected = UNUSUAL[case]
    assert np.abs(decode(data, "a").astype(int) - expected).max() <= 1


def test_of_a_multi_picture_jpeg_the_first_is_decoded():
    both = io.BytesIO()
    Image.fromarray(RGB).save(both, "MPO", save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    assert np.abs(decode(both.getvalue(), "a").astype(int) - BGR).mean() < 6
    assert pictures_in(both.getvalue()) == 1


def test_a_format_that_this_opencv_lacks_is_named(monkeypatch):
    monkeypatch.setattr(cv2, "haveImageWriter", lambda name: not name.endswith(".gif"))
    with pytest.raises(InputError, match=r"^a — a GIF file, which OpenCV .* on this machine cannot read — convert it"):
        decode(EXACT[".gif"][:-60], "a")


@pytest.mark.parametrize("length", range(1, 60))
def test_a_header_of_any_length_is_read_or_refused(length):
    for data in (
        *EXACT.values(),
        *SEVERAL.values(),
        *(make(ALPHA) for make in (WITH_ALPHA["TIFF"], WITH_ALPHA["AVIF"])),
    ):
        with pytest.raises(InputError):
            decode(data[:length], "a")
        assert 1 <= exif_orientation(data[:length]) <= 8
