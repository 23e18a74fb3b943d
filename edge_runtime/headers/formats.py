"""The formats of image files: which are decoded, how they are told apart, and what a header says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """Format of image files that is decoded.

    Attributes:
        name: Name in messages.
        suffixes: Endings of its file names in lower case, the usual one first.
        signatures: First bytes of its files, one of them.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]


FORMATS = (
    ImageFormat(name="JPEG", suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), signatures=(b"\xff\xd8\xff",)),
    ImageFormat(name="PNG", suffixes=(".png", ".apng"), signatures=(b"\x89PNG\r\n\x1a\n",)),
    ImageFormat(name="BMP", suffixes=(".bmp", ".dib"), signatures=(b"BM",)),
    ImageFormat(name="WebP", suffixes=(".webp",), signatures=(b"RIFF",)),
    ImageFormat(name="TIFF", suffixes=(".tif", ".tiff"), signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ImageFormat(name="GIF", suffixes=(".gif",), signatures=(b"GIF87a", b"GIF89a")),
    ImageFormat(
        name="JPEG 2000",
        suffixes=(".jp2", ".j2k", ".jpc", ".j2c"),
        signatures=(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ),
    # Its brand stands behind the length and the kind of its first box.
    ImageFormat(name="AVIF", suffixes=(".avif",), signatures=()),
    ImageFormat(
        name="PNM",
        suffixes=(".ppm", ".pgm", ".pbm", ".pnm"),
        signatures=tuple(b"P%d%c" % (kind, gap) for kind in range(1, 7) for gap in b" \t\r\n"),
    ),
)
"""The formats that are decoded."""
FORMAT_NAMES = f"{', '.join(form.name for form in FORMATS[:-1])} or {FORMATS[-1].name}"
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)
UNREAD_FORMATS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".raw"), "camera raw"),
    **dict.fromkeys((".npy", ".npz"), "NumPy"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".nii", ".mha", ".nrrd"), "medical volume"),
    ".jxl": "JPEG XL",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".pfm": "PFM",
    ".pam": "PAM",
    ".tga": "TGA",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".ico": "ICO",
    ".pcx": "PCX",
    ".mat": "MATLAB",
}
"""Format by ending, in lower case, of the other files that hold images or masks; they must be converted to PNG."""
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "NumPy"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?R", "Radiance HDR"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"<", "HTML or XML"),
)
_BRANDS = (
    (frozenset((b"avif", b"avis")), "AVIF"),
    (frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")), "HEIC"),
)
"""Brands of a file in boxes (ISO/IEC 14496-12): its main one, and those that it is compatible with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """Header of an image file.

    Attributes:
        kind: Name of the format, "PNG", "JPEG", …; see ``FORMATS``.
        height_px: Stored height in pixels, before any EXIF rotation; None if the header is truncated.
        width_px: Stored width in pixels, before any EXIF rotation; None if the header is truncated.
        channels: 1 grey, 2 grey + alpha, 3 colour or palette, 4 colour + alpha or CMYK; None where the header does not
            say: BMP, WebP, GIF and AVIF.
        bit_depth: Bits per sample; None where the header does not say.
        samples: Kind of the samples, "uint", "int", "float", …; anything but "uint" only in a TIFF.
        palette: Whether the file is an indexed PNG.
        cmyk: Whether the colours are for printing.
        alpha: Whether pixels may be transparent, or have another value that is not read.
        unread: What the decoder cannot read or reads wrongly in this file; None if it can be decoded.
    """

    kind: str
    height_px: int | None = None
    width_px: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    samples: str = "uint"
    palette: bool = False
    cmyk: bool = False
    alpha: bool = False
    unread: str | None = None


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the endings of the file names of a format that is decoded, the usual one first."""
    return next(form.suffixes for form in FORMATS if form.name == kind)


def kind_of(data: bytes) -> str:
    """Return the name of a file's format by its first bytes, "unknown" if they are those of no known one."""
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[place : place + 4] for place in range(16, min(int.from_bytes(data[:4]), 256), 4))}
        return next((name for some, name in _BRANDS if brands & some), "MP4")
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return "RIFF"
    forms = ((signature, form.name) for form in FORMATS for signature in form.signatures)
    return next((name for signature, name in (*forms, *_OTHERS) if data.startswith(signature)), "unknown")
