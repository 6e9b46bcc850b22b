"""A writer of GGUF version 3, the file format of llama.cpp.

The file is a head, key-value pairs, one description per tensor, and the
tensors' bytes, each aligned to 32. All numbers are little-endian.
"""

import struct

import numpy as np

ALIGNMENT = 32
TENSOR_TYPE = {np.dtype("float32"): 0, np.dtype("float16"): 1}


class Typed:
    """A value with the number and layout of its GGUF type."""

    def __init__(self, type_id, layout, value):
        self.type_id, self.layout, self.value = type_id, layout, value


def u32(value):
    return Typed(4, "<I", value)


def i32(value):
    return Typed(5, "<i", value)


def f32(value):
    return Typed(6, "<f", value)


def pack_string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def pack_value(value):
    """The type number and bytes of a Typed, bool, str, or a list of one of these."""
    if isinstance(value, Typed):
        return value.type_id, struct.pack(value.layout, value.value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, str):
        return 8, pack_string(value)
    if isinstance(value, list):
        packed = [pack_value(item) for item in value]
        head = struct.pack("<IQ", packed[0][0], len(packed))
        return 9, head + b"".join(data for _, data in packed)
    raise TypeError(f"no GGUF type for {value!r}")


def pad(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def write_gguf(path, metadata, tensors):
    """Write a dict of values and a dict of float16 or float32 arrays."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        type_id, data = pack_value(value)
        head += pack_string(key) + struct.pack("<I", type_id) + data

    body = b""
    for name, array in tensors.items():
        # GGUF lists the fastest-moving dimension first, numpy last.
        sizes = array.shape[::-1]
        head += pack_string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        head += struct.pack("<IQ", TENSOR_TYPE[array.dtype], len(body))
        body += pad(array.tobytes())

    with open(path, "wb") as file:
        file.write(pad(head) + body)
