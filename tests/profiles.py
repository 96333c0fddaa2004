"""ICC profiles made by hand: primaries and a curve (ICC.1:2022, three-component matrix-based), or grey."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # of sRGB and Display P3


def xyz(point):
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def colorants(primaries, white=D65):
    """(3, 3): linear RGB → XYZ under D50."""
    columns = np.array([xyz(point) for point in primaries]).T
    columns = columns * np.linalg.solve(columns, xyz(white))
    scale = np.diag((BRADFORD @ np.array(D50)) / (BRADFORD @ xyz(white)))
    return np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ columns


def fixed(number):
    return struct.pack(">i", round(number * 65536))


def xyz_tag(values):
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def curve_tag(curve):
    """A gamma as a number, the five parameters of sRGB's kind, or a table of numbers in [0, 1]."""
    if isinstance(curve, float):
        return b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(curve * 256))
    if len(curve) == 5:
        return b"para\0\0\0\0" + struct.pack(">Hxx", 3) + b"".join(map(fixed, curve))
    table = b"".join(struct.pack(">H", round(level * 65535)) for level in curve)
    return b"curv\0\0\0\0" + struct.pack(">I", len(curve)) + table + b"\0" * (-len(table) % 4)


def text_tag(name, version):
    if version >= 4:
        text = name.encode("utf-16-be")
        return (
            b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text + b"\0\0"
        )
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78


def profile(name, primaries=SRGB, curve=CURVE, *, version=4, space=b"RGB ", kind=b"mntr", white=D65):
    """The bytes of a profile; of a grey one (`space`) the primaries do not count."""
    tags = {b"desc": text_tag(name, version), b"wtpt": xyz_tag(D50)}
    if space == b"RGB ":
        for letter, column in zip("rgb", colorants(primaries, white).T, strict=True):
            tags[f"{letter}XYZ".encode()] = xyz_tag(column)
            tags[f"{letter}TRC".encode()] = curve_tag(curve)
    else:
        tags[b"kTRC"] = curve_tag(curve)
    return _assembled(tags, version, kind, space, b"XYZ ")


def _assembled(tags, version, kind, space, connection):
    at, table, body = 132 + 12 * len(tags), b"", b""
    for key, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", key, at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"none", version << 24, kind, space, connection)
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(fixed, D50)) + b"\0" * 48
    assert len(head) == 128
    return head + struct.pack(">I", len(tags)) + table + body


def display_p3():
    return profile("Display P3", P3)


def adobe_rgb():
    return profile("Adobe RGB (1998)", ADOBE, 563 / 256, version=2)


def cmyk(name="A press"):
    """A printer of 16 corners: white paper, ink K goes straight to black, and each other ink has a Lab."""
    inks = {"C": (55, -37, -50), "M": (48, 74, -3), "Y": (89, -5, 93)}
    corners = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lab = np.array([100.0, 0.0, 0.0])
        for on, ink in zip((c, m, y), "CMY", strict=True):
            lab = lab + on * (np.array(inks[ink]) - [100, 0, 0]) / max(1, c + m + y)
        corners.append(lab * (1 - k))
    table = bytes(
        int(np.clip(round(value), 0, 255))
        for light, a, b in corners
        for value in (light * 2.55, a + 128, b + 128)
    )
    ramp = bytes(range(256))
    one = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + one + ramp * 4 + table + ramp * 3
    tags = {b"desc": text_tag(name, 2), b"wtpt": xyz_tag(D50), b"A2B0": lut}
    return _assembled(tags, 2, b"prtr", b"CMYK", b"Lab ")
