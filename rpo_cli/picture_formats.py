"""What bytes are, by how they begin: formats of pictures that are read, and names of those that are not.

Sources: the formats' own specifications; brands of ISO media files: https://mp4ra.org, HEIF: ISO 23008-12,
AVIF: https://aomediacodec.github.io/av1-avif.
"""

import re

# name, as users write it → Pillow's; HEIF needs the plugin pillow-heif, which registers nothing
READ = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "WebP": "WEBP",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "AVIF": "AVIF",
}
HEIF = "HEIF"
# of files that may be pictures of these formats; what they are is told by their bytes
ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif"),
)
# of files that show something and are not read: where pictures are looked for, each is a row that says so
OTHERS = (
    *(".svg", ".svgz", ".psd", ".psb", ".xcf", ".pdf", ".eps", ".ai", ".jxl", ".jp2", ".j2k", ".jpx"),
    *(".ico", ".icns", ".tga", ".exr", ".hdr", ".dds", ".qoi", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".wmf", ".emf", ".bpg", ".mng"),
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg"),
)
ASKED = f"{', '.join(READ)}, or HEIF where pillow-heif is installed"

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor (CUR)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"BPG\xfb", "BPG"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture"),
    (b"IIRO", "a camera's raw picture"),
    (b"IIRS", "a camera's raw picture"),
    (b"IIU\0", "a camera's raw picture"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "a video (MPEG)"),
    (b"\0\0\1\xb3", "a video (MPEG)"),
    (b"FLV\1", "a video (Flash)"),
    (b"OggS", "Ogg"),
    (b"ID3", "a sound (MP3)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PAR1", "Parquet"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SIMPLE  =", "FITS"),
    (b"version https://git-lfs", "a Git LFS pointer (its file was not downloaded)"),
)
_RIFF = {b"WEBP": "WebP", b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"miaf")
_DIB_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the headers that follow a BMP's own
_MARK = re.compile(rb"\s*(?:<\?xml.*?>|<!--.*?-->|\s)*<(!doctype\s+)?([a-z]+)", re.DOTALL | re.IGNORECASE)
_LOOKED_AT = 4096


def format_of(data: bytes) -> str:
    """The name of a format, "" for bytes that begin like none we know; of `READ`, `HEIF` or another."""
    head = data[:_LOOKED_AT]
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], "RIFF")
    if head.startswith(_TIFF):
        return "a camera's raw picture" if head[8:10] == b"CR" else "TIFF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _DIB_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _media(head)
    if head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3].isspace():
        return "PNM"
    return _text(head)


def _media(head: bytes) -> str:
    """Of an ISO media file, by its brands: the major one, then those it is compatible with."""
    size = int.from_bytes(head[:4], "big")
    listed = head[16 : max(16, min(size, 512))]
    brands = [head[8:12], *(listed[at : at + 4] for at in range(0, len(listed), 4))]
    if brands[0] == b"crx ":
        return "a camera's raw picture"
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    if any(brand in _HEIF_BRANDS for brand in brands):
        return HEIF
    return "a video (QuickTime)" if brands[0] == b"qt  " else "a video (MP4)"


def _text(head: bytes) -> str:
    if not head.strip():
        return "an empty file" if not head else ""
    found = _MARK.match(head.removeprefix(b"\xef\xbb\xbf"))
    if found is None:
        return ""
    word = found[2].lower()
    return {b"svg": "SVG", b"html": "HTML", b"head": "HTML", b"body": "HTML"}.get(word, "XML")
