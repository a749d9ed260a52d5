"""Safetensors in plain Python: reading and writing with deterministic bytes, and the BF16 codec that goes with it.

The reference depends on NumPy alone, so it brings its own reader and writer. The writer orders tensors by item size
(widest first, so that every tensor is aligned) and then by name, and pads the header with spaces to 8 bytes: equal
tensors give equal files.
"""

import json
import math
import struct
from dataclasses import dataclass

import numpy as np

NUMPY_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "F8_E4M3": np.dtype("u1"),  # as its codes
}
NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


@dataclass(frozen=True)
class Bf16:
    """An array of BF16 numbers as their 16-bit patterns, because NumPy has no such dtype."""

    bits: np.ndarray  # uint16

    @staticmethod
    def round(x):
        """The nearest BF16 of each finite float32, ties to even."""
        wide = np.ascontiguousarray(x, np.float32).view(np.uint32)
        if not np.all(np.isfinite(x)):
            raise ValueError("Bf16.round: the array holds a value that is not finite")
        tie_to_even = (wide >> np.uint32(16)) & np.uint32(1)
        return Bf16(((wide + np.uint32(0x7FFF) + tie_to_even) >> np.uint32(16)).astype(np.uint16))

    def to_float32(self):
        return (self.bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def load(path):
    """All tensors of one file, name -> array in its own dtype; BF16 comes back as the equal float32."""
    with open(path, "rb") as file:
        return decode(file.read(), path)


def decode(data, path):
    """The tensors of a safetensors file's bytes; `path` names it in errors."""
    if len(data) < 8:
        raise ValueError(f"{path}: {len(data)} bytes are too few for a safetensors file")
    (header_size,) = struct.unpack_from("<Q", data)
    if header_size > len(data) - 8:
        raise ValueError(f"{path}: header of {header_size} bytes in a file of {len(data)}")
    header = json.loads(data[8 : 8 + header_size])
    payload = data[8 + header_size :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        dtype = np.dtype("<u2") if entry["dtype"] == "BF16" else NUMPY_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{path}: {name} has dtype {entry['dtype']}; accepted: BF16, {', '.join(NUMPY_DTYPES)}")
        if not 0 <= begin <= end <= len(payload) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path}: {name} has data_offsets [{begin}, {end}] that do not fit shape {shape}")
        array = np.frombuffer(payload[begin:end], dtype).reshape(shape)
        tensors[name] = Bf16(array).to_float32() if entry["dtype"] == "BF16" else array
    return tensors


def encode(tensors):
    """The bytes of a safetensors file with these tensors (arrays of an accepted dtype, or Bf16)."""
    rows = []
    for name, value in tensors.items():
        array, dtype = (value.bits, "BF16") if isinstance(value, Bf16) else (value, NAMES[value.dtype])
        rows.append((-array.dtype.itemsize, name, dtype, array))
    header, chunks, offset = {}, [], 0
    for _, name, dtype, array in sorted(rows, key=lambda row: row[:2]):
        chunk = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(chunk)]}
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)
