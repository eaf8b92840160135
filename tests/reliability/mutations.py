"""Files made wrong: bytes, JSON, and containers whose checksums and lengths are right again: readers go deeper.

    mutated(seed_bytes, random, kind) -> bytes       kind: "bytes", "json", "png", "zip", "safetensors", "lines"

All follows from the random numbers; `others` are spliced in.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["mutated"]

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**200, -(2**70), 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "x",
    "0",
    "../../outside", "/etc/passwd", "a\0b", "\ud800", "é" * 500, "__class__", "x" * 20000, [], {}, [[]], [None], [1, 2,
    3],
    [-1, 300, 0.5], ["a", 1], {"a": 1}, {"name": "x"}, [0] * 3000, "NaN", "1e999", "-1", "%s%n", "{0}", "[red]",
    "C:\\x",
)  # fmt: skip


def mutated(data: bytes, draw: random.Random, kind: str = "bytes", others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four things wrong; one in ten of any kind is wrong in its bytes."""
    made = data
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        how = _KINDS[kind] if draw.random() > 0.1 else _bytes
        try:
            made = how(made, draw)
        except (
            ValueError,
            LookupError,
            RecursionError,
            struct.error,
            zipfile.BadZipFile,
            NotImplementedError,
            zlib.error,
        ):
            made = _bytes(made, draw)  # broken by an earlier one
        if others and draw.random() < 0.03:
            other = draw.choice(others)
            made = made[: draw.randint(0, len(made))] + other[draw.randint(0, len(other)) :]
    return made


def _bytes(data: bytes, draw: random.Random) -> bytes:
    made = bytearray(data)
    at = draw.randrange(len(made) + 1)
    if draw.random() < 0.5:
        at = min(at, draw.choice((16, 64, 256, 1024)))  # heads hold the sizes
    how = draw.randrange(11)
    if not made or how == 0:
        return bytes(made[:at])
    at = min(at, len(made) - 1)
    length = min(draw.choice((1, 1, 2, 4, 8, 16, 100, 1000)), len(made) - at)
    if how == 1:
        made[at] ^= 1 << draw.randrange(8)
    elif how == 2:
        made[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif how in (3, 4):
        form = draw.choice("<>") + draw.choice("HIQ")
        size = struct.calcsize(form)
        made[at : at + size] = struct.pack(form, draw.choice(NUMBERS) % 256**size)
    elif how == 5:
        del made[at : at + length]
    elif how == 6:
        made[at:at] = made[at : at + length] * draw.choice((1, 2, 50))
    elif how == 7:
        made[at : at + length] = draw.randbytes(length)
    elif how == 8:
        made[at : at + length] = bytes([draw.choice((0, 0xFF, 0x20, 0x41))]) * length
    elif how == 9:
        other = draw.randrange(len(made))
        made[at : at + length], made[other : other + length] = made[other : other + length], made[at : at + length]
    else:
        made += draw.randbytes(length)
    return bytes(made)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in pairs:
        found += _places(inside, (*path, key))
    return found


def _tree(value: Any, draw: random.Random) -> Any:
    path = draw.choice(_places(value))
    new = draw.choice(VALUES)
    if not path:
        return new if draw.random() < 0.5 else [value]
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key, how = path[-1], draw.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[draw.choice(("", "x", "name", "../x", "\0"))] = holder.pop(key)
    elif how == 2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif how == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = draw.choice(
            (-holder[key], holder[key] * 2, holder[key] + 1, float(holder[key]), str(holder[key]))
        )
    else:
        holder[key] = json.loads(json.dumps(new))
    return value


def _json(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.05:
        return draw.choice(
            (
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b"9" * 10_000,
                b"[1e999]",
                b"",
                b"null",
                b"\xef\xbb\xbf[]",
                b"\xff\xfe",
                b'"\\ud800"',
            )
        )
    made = json.dumps(_tree(json.loads(data), draw), ensure_ascii=draw.random() < 0.8)
    if draw.random() < 0.05:
        made = made.replace("Infinity", "1e999").replace(": 1", ": " + "1" * 5000, 1)
    return made.encode(errors="surrogatepass")


def _png(data: bytes, draw: random.Random) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number, how = draw.randrange(len(chunks)), draw.randrange(6)
    name, content = chunks[number]
    if how == 0:
        del chunks[number]
    elif how == 1:
        chunks.insert(draw.randrange(len(chunks)), chunks[number])
    elif how == 2 and name == b"IDAT":
        chunks[number] = (name, zlib.compress(_bytes(zlib.decompress(content), draw)))
    elif how == 3:
        new = draw.choice((b"PLTE", b"tRNS", b"eXIf", b"gAMA", b"iCCP", b"acTL", b"zTXt", b"IDAT", b"IHDR"))
        chunks.insert(min(1, number), (new, draw.randbytes(draw.choice((0, 1, 3, 6, 13, 256, 768)))))
    else:
        chunks[number] = (name, _bytes(content, draw))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)


def _zip(data: bytes, draw: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    number = draw.randrange(len(members))
    if draw.random() < 0.6:  # the pickle says what all else is
        number = next((at for at, (name, _) in enumerate(members) if name.endswith(".pkl")), number)
    name, content = members[number]
    how = draw.randrange(8)
    if how == 0:
        del members[number]
    elif how == 1:
        members.append((name + "x", content))
    elif how == 2:
        members[number] = (draw.choice(("../../outside", "/outside", "x/../../y", "", "a\\b")), content)
    elif how == 3:
        members.append((name.rpartition("/")[0] + "/data/0", bytes(1 << 20)))
    else:
        members[number] = (name, _bytes(content, draw))
    made = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if draw.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


def _safetensors(data: bytes, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    made = _json(header, draw)
    return struct.pack("<Q", len(made)) + made + rest


def _lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.split(b"\n")
    at, how = draw.randrange(len(lines)), draw.randrange(6)
    words = lines[at].split(b" ")
    word = draw.randrange(len(words))
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(at, lines[draw.randrange(len(lines))])
    elif how == 2:
        del words[word]
    elif how == 3:
        words.insert(word, words[word])
    else:
        new = draw.choice(
            ("nan", "inf", "-1", "1e999", "0", "", "../../x", "x" * 5000, "\0", "é", "9" * 400, ":", "[", "&x;")
        )
        words[word] = new.encode()
    if how in (2, 3, 4, 5):
        lines[at] = b" ".join(words)
    return b"\n".join(lines)


_KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": _bytes, "json": _json, "png": _png, "zip": _zip, "safetensors": _safetensors, "lines": _lines,
}  # fmt: skip
