import struct
import zlib

import cv2
import numpy as np
import pytest
from colors import color_scene

from edge_runtime import image as image_module
from edge_runtime.errors import InputError
from edge_runtime.headers import read_header
from edge_runtime.image import decode, encode_png, read_image


def encoded(ending: str, image: np.ndarray) -> bytes:
    done, data = cv2.imencode(ending, image)
    assert done
    return data.tobytes()


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """Insert an EXIF segment that holds nothing but the orientation, tag 0x0112."""
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def with_size(png: bytes, width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_every_format_decodes_to_bgr(ending):
    scene = color_scene()
    image = decode(encoded(ending, scene), "a")
    assert image.shape == scene.shape
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - scene).mean() < 6  # JPEG and WebP lose a little


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_a_truncated_file_is_refused_wherever_it_is_cut(ending):
    data = encoded(ending, color_scene())
    for share in (0.2, 0.5, 0.8, 0.95):
        with pytest.raises(InputError, match=r"^cut — (truncated|cannot be decoded)"):
            decode(data[: int(len(data) * share)], "cut")


def test_a_jpeg_without_its_end_marker_is_refused():
    with pytest.raises(InputError, match="truncated JPEG"):
        decode(encoded(".jpg", color_scene())[:-2], "cut")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"empty\.jpg — empty file \(0 bytes\)"):
        read_image(tmp_path / "empty.jpg")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.jpg — no such file or directory"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"hello, world", "unknown"), (b"\0\0\0\x18ftypisom", "MP4"), (b"%PDF-1.7", "PDF"), (b"PK\3\4..", "ZIP")],
)
def test_another_kind_of_file_is_refused_with_its_kind(data, kind):
    with pytest.raises(InputError, match=rf"not an image \({kind} data\) — expected JPEG, PNG, BMP, WebP, TIFF, GIF, "):
        decode(data, "a.jpg")


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_sixteen_bits_are_never_scaled_silently(ending):
    deep = np.full((4, 4, 3), 60_000, np.uint16)
    with pytest.raises(InputError, match=r"(16 bits a sample|uint16).* how to scale is your choice"):
        decode(encoded(ending, deep), "deep")


def test_a_huge_picture_is_refused_from_its_header():
    bomb = with_size(encoded(".png", color_scene()), 100_000, 100_000)
    with pytest.raises(InputError, match="100000x100000 pixels — at most 64 megapixels — scale it down"):
        decode(bomb, "bomb.png")


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda i: i),
        (3, lambda i: i[::-1, ::-1]),
        (6, lambda i: np.rot90(i, -1)),
        (8, lambda i: np.rot90(i)),
    ],
)
def test_exif_orientation_is_applied(orientation, turn):
    jpeg = encoded(".jpg", color_scene())
    assert np.array_equal(decode(with_exif(jpeg, orientation), "turned"), turn(decode(jpeg, "straight")))


def test_exif_orientation_is_not_applied_to_raw_samples():
    jpeg = encoded(".jpg", color_scene())
    assert decode(with_exif(jpeg, 6), "turned", mode="raw").shape == (48, 64, 3)


def test_a_grey_file_becomes_three_equal_channels():
    grey = color_scene()[:, :, 0]
    image = decode(encoded(".png", grey), "grey")
    assert image.shape == (48, 64, 3)
    assert all(np.array_equal(image[:, :, c], grey) for c in range(3))


def test_alpha_is_dropped():
    scene = color_scene()
    image = decode(encoded(".png", np.dstack([scene, np.zeros((48, 64), np.uint8)])), "rgba")
    assert np.array_equal(image, scene)


@pytest.mark.parametrize("name", ["bilder/größe 1.png", "画像.png", 'a\'b "c".png', "x" * 200 + ".png"])
def test_any_file_name_is_read(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(".png", color_scene()))
    assert np.array_equal(read_image(path), color_scene())


def test_a_line_break_in_a_name_does_not_break_the_message(tmp_path):
    (tmp_path / "a\nb.png").touch()
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "a\nb.png")
    assert "\n" not in str(caught.value)
    assert "a\\nb.png" in str(caught.value)


@pytest.mark.parametrize(
    ("image", "ending", "kind", "channels"),
    [
        (np.zeros((5, 7, 3), np.uint8), ".png", "PNG", 3),
        (np.zeros((5, 7), np.uint8), ".png", "PNG", 1),
        (np.zeros((5, 7, 4), np.uint8), ".png", "PNG", 4),
        (np.zeros((5, 7, 3), np.uint8), ".jpg", "JPEG", 3),
        (np.zeros((5, 7), np.uint8), ".jpg", "JPEG", 1),
    ],
)
def test_the_header_says_size_and_channels(image, ending, kind, channels):
    header = read_header(encoded(ending, image), "a")
    assert (header.kind, header.height_px, header.width_px) == (kind, 5, 7)
    assert (header.channels, header.bit_depth, header.palette) == (channels, 8, False)


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + body


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(".bmp", np.zeros((5, 7, 3), np.uint8)), "BMP"),
        (encoded(".tiff", np.zeros((5, 7, 3), np.uint8)), "TIFF"),
        (cv2.imencode(".webp", np.zeros((5, 7, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes(), "WebP"),
        (cv2.imencode(".webp", np.zeros((5, 7, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(), "WebP"),
        (cv2.imencode(".webp", np.zeros((5, 7, 4), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes(), "WebP"),
        (webp(b"VP8X", b"\0\0\0\0\6\0\0\4\0\0"), "WebP"),
        (b"MM\0*\0\0\0\x08\0\2\1\0\0\3\0\0\0\1\0\7\0\0\1\1\0\4\0\0\0\1\0\0\0\5", "TIFF"),
    ],
)
def test_the_header_of_the_other_formats_says_the_size(data, kind):
    header = read_header(data, "a")
    assert (header.kind, header.height_px, header.width_px) == (kind, 5, 7)


def test_a_huge_picture_of_another_format_is_refused_too():
    bmp = bytearray(encoded(".bmp", np.zeros((5, 7, 3), np.uint8)))
    bmp[18:26] = struct.pack("<ii", 30_000, -30_000)
    with pytest.raises(InputError, match="30000x30000 pixels — at most 64 megapixels"):
        decode(bytes(bmp), "bomb.bmp")


def test_a_sound_file_is_no_webp():
    with pytest.raises(InputError, match="not an image"):
        decode(b"RIFF\0\0\0\0WAVEfmt ", "a.webp")


@pytest.mark.parametrize("length", range(1, 40))
def test_a_header_of_any_length_is_read_or_refused(length):
    for ending in (".png", ".jpg", ".bmp", ".webp", ".tiff"):
        data = encoded(ending, color_scene())[:length]
        with pytest.raises(InputError):
            decode(data, "short")


def test_png_keeps_every_pixel():
    assert np.array_equal(decode(encode_png(color_scene(), "a"), "a"), color_scene())


def test_the_limit_of_pixels_is_the_callers(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", color_scene()))
    assert read_image(path, max_pixels=48 * 64).shape == (48, 64, 3)
    for read in (
        lambda: read_image(path, max_pixels=48 * 64 - 1),
        lambda: decode(path.read_bytes(), "a", max_pixels=9),
    ):
        with pytest.raises(InputError, match="64x48 pixels — at most 0 megapixels — scale it down"):
            read()


@pytest.fixture
def everything_is_huge(monkeypatch):
    """Read the small pictures of these tests as those beyond 64 megapixels are read."""
    monkeypatch.setattr(image_module, "MAX_PIXELS", 1000)


@pytest.mark.parametrize("name", ["a", "größe 1", "a\nb", "\udcff\udcfe"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.usefixtures("everything_is_huge")
def test_a_huge_picture_is_read_like_any_other(tmp_path, name, ending):
    data = encoded(ending, color_scene())
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(data)
    assert np.array_equal(read_image(path), decode(data, "a"))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.usefixtures("everything_is_huge")
def test_a_huge_picture_is_turned_by_its_exif_orientation(tmp_path, orientation):
    data = with_exif(encoded(".jpg", color_scene()), orientation)
    (tmp_path / "a.jpg").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), decode(data, "a"))


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.usefixtures("everything_is_huge")
def test_a_huge_truncated_picture_is_refused_too(tmp_path, ending):
    data = encoded(ending, color_scene())
    path = tmp_path / f"cut{ending}"
    for share in (0.5, 0.8, 0.95):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"cut\.\w+ — (truncated|cannot be decoded)"):
            read_image(path)


@pytest.mark.usefixtures("everything_is_huge")
def test_a_huge_truncated_jpeg_is_refused_though_an_end_marker_stands_in_its_header(tmp_path):
    """As that of a thumbnail does; imread would make up the missing rows."""
    data = encoded(".jpg", color_scene())
    path = tmp_path / "cut.jpg"
    path.write_bytes((data[:2] + b"\xff\xe2\x00\x04\xff\xd9" + data[2:])[:1000])
    assert cv2.imread(str(path)) is not None
    with pytest.raises(InputError, match=r"cut\.jpg — truncated JPEG"):
        read_image(path)


@pytest.mark.usefixtures("everything_is_huge")
def test_a_huge_picture_of_sixteen_bits_is_refused_too(tmp_path):
    (tmp_path / "deep.png").write_bytes(encoded(".png", np.zeros((50, 50, 3), np.uint16)))
    with pytest.raises(InputError, match="16 bits a sample"):
        read_image(tmp_path / "deep.png")
