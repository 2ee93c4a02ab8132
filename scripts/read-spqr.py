#!/usr/bin/env python3
"""Reads the linears that paring stored in its layout paring-spqr, without paring.

    scripts/read-spqr.py FOLDER            decodes every linear, prints its shape and bits per weight
    scripts/read-spqr.py FOLDER DENSE      also compares with DENSE, made by `paring decompress FOLDER`, bit for bit

Fails when a linear cannot be decoded, or a weight differs. Needs NumPy. It follows docs/format-spqr.md and is there to
show that the page suffices; it checks what could be misread, not every lie that a file could tell.
"""

import json
import re
import struct
import sys
from pathlib import Path

import numpy as np

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U32": 4, "BOOL": 1}


class Tensors:
    """The tensors of a folder by name: (type, shape, bytes)."""

    def __init__(self, folder):
        self.entries = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            with open(path, "rb") as file:
                length = struct.unpack("<Q", file.read(8))[0]
                header = json.loads(file.read(length))
            for name, entry in header.items():
                if name != "__metadata__":
                    self.entries[name] = (path, 8 + length, entry)

    def __contains__(self, name):
        return name in self.entries

    def read(self, name):
        path, start, entry = self.entries[name]
        first, end = entry["data_offsets"]
        with open(path, "rb") as file:
            file.seek(start + first)
            data = file.read(end - first)
        kind, shape = entry["dtype"], entry["shape"]
        assert len(data) == SIZES[kind] * int(np.prod(shape)), f"{name}: length"
        return kind, shape, data


def to_f32(kind, data):
    if kind == "F32":
        return np.frombuffer(data, "<f4").copy()
    if kind == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    assert kind == "BF16", f"{kind} is no type of a weight"
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def rounded(kind, x):
    """f32 rounded to the type, as f32."""
    x = np.asarray(x, np.float32)
    if kind == "F32":
        return x
    if kind == "F16":
        return x.astype(np.float16).astype(np.float32)
    bits = x.view(np.uint32)
    # Half of the last place that stays, less one unless that place is odd: ties go to even.
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def unpack(data, count, width):
    """The values of a stream. `count` None: as many as there are."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if count is None:
        count = len(bits) // width
    else:
        assert len(data) == (count * width + 7) // 8, "a stream of another length"
        assert not bits[count * width :].any(), "the bits after a stream are not zero"
    places = 1 << np.arange(width, dtype=np.int64)
    values = np.empty(count, np.int64)
    # In pieces, since each bit takes eight bytes here.
    for first in range(0, count, 1 << 20):
        piece = bits[first * width : min(count, first + (1 << 20)) * width]
        values[first : first + (1 << 20)] = piece.reshape(-1, width).astype(np.int64) @ places
    return values


def places_of(data, count, width):
    """Where the outliers are: row * cols + position."""
    skip, codes = (1 << width) - 1, unpack(data, None, width)
    # A code below `skip` moves one place further than it says.
    behind = np.cumsum(np.where(codes == skip, skip, codes + 1))
    places = (behind - 1)[codes != skip]
    # Zeros that fill up the last byte may look like codes.
    assert len(places) >= count, "too few gaps"
    used = np.flatnonzero(codes != skip)[count - 1] + 1
    assert len(data) == (used * width + 7) // 8, "too many gaps"
    return places[:count]


class Module:
    """One linear."""

    def __init__(self, tensors, path, weights):
        self.tensors, self.path, self.weights = tensors, path, weights
        self.stored = 0

    def has(self, local):
        return f"{self.path}.{local}" in self.tensors

    def get(self, local):
        kind, shape, data = self.tensors.read(f"{self.path}.{local}")
        self.stored += len(data)
        return kind, shape, data

    def stream(self, local, count, width):
        kind, shape, data = self.get(local)
        assert kind == "U8" and shape == [len(data)], f"{local}: no stream"
        return unpack(data, count, width)

    def floats(self, local, shape):
        kind, got, data = self.get(local)
        assert got == list(shape) and self.kind in (None, kind), f"{local}: {kind} {got}, expected {shape}"
        self.kind = kind
        return to_f32(kind, data).reshape(shape)

    def statistic(self, plain, local, bits, rows, groups):
        """Scales or zeros, [rows, groups]: stored, or coded again."""
        if bits is None:
            return self.floats(plain, (rows, groups))
        height = self.weights["second_level"]["rows"]
        tiles = -(-rows // height)
        scales, zeros = self.floats(f"{local}_grid", (2, tiles, groups))
        codes = self.stream(f"{local}_codes", rows * groups, bits).reshape(rows, groups).astype(np.float32)
        tile = np.arange(rows) // height
        return rounded(self.kind, scales[tile] * rounded(self.kind, codes - zeros[tile]))

    def decode(self):
        """The weight as f32 [rows, cols], in file order, and its type."""
        kind, _, data = self.get("weight_shape")
        assert kind == "I64"
        rows, cols, width = struct.unpack("<3q", data)
        weights, self.kind = self.weights, None
        bits = weights["num_bits"]
        size = cols if weights["strategy"] == "channel" else min(weights["group_size"], cols)
        groups = -(-cols // size)
        second = weights["second_level"] or {}

        scales = self.statistic("weight_scale", "scale", second.get("scale_bits"), rows, groups)
        if weights["symmetric"]:
            zeros = np.full((rows, groups), 2 ** (bits - 1), np.float32)
        elif weights["zero_point"] == "integer" and not self.has("weight_zero_point"):
            zeros = self.stream("zero_codes", rows * groups, bits).reshape(rows, groups).astype(np.float32)
        else:
            zeros = self.statistic("weight_zero_point", "zero", second.get("zero_bits"), rows, groups)

        codes = self.stream("weight", rows * cols, bits).reshape(rows, cols).astype(np.float32)
        group = np.arange(cols) // size
        values = rounded(self.kind, scales[:, group] * rounded(self.kind, codes - zeros[:, group]))
        if width:
            kind, (count,), data = self.get("outlier_values")
            assert kind == self.kind
            values.reshape(-1)[places_of(self.get("outlier_gaps")[2], count, width)] = to_f32(kind, data)
        if self.has("column_order"):
            order = self.stream("column_order", cols, max(1, (cols - 1).bit_length()))
            assert sorted(order) == list(range(cols)), "column_order is no order"
            by_position, values = values, np.empty_like(values)
            values[:, order] = by_position
        return values, self.kind


def matches(target, path):
    return bool(re.match(target[3:], path)) if target.startswith("re:") else target in ("Linear", path)


def modules(tensors, config):
    """The linears in this layout, each with its `weights` object."""
    quant = config["quantization_config"]
    assert quant["quant_method"] == "paring" and quant["version"] == "1", "another method"
    for name in sorted(tensors.entries):
        path, _, local = name.rpartition(".")
        if local != "weight_shape" or any(matches(target, path) for target in quant["ignore"]):
            continue
        for group in quant["config_groups"].values():
            if group["format"] == "paring-spqr" and any(matches(target, path) for target in group["targets"]):
                yield Module(tensors, path, group["weights"])
                break


def main(folder, dense=None):
    tensors = Tensors(folder)
    config = json.loads((Path(folder) / "config.json").read_text())
    reference = dense and Tensors(dense)
    found = different = 0
    for module in modules(tensors, config):
        values, kind = module.decode()
        found += 1
        bits = module.stored * 8 / values.size
        print(f"{module.path}: {kind} {values.shape[0]}x{values.shape[1]}, {bits:.3f} bits per weight", end="")
        if reference:
            expected_kind, shape, data = reference.read(f"{module.path}.weight")
            expected = to_f32(expected_kind, data)
            same = tuple(shape) == values.shape and expected_kind == kind
            same = same and np.array_equal(expected.view(np.uint32), values.reshape(-1).view(np.uint32))
            different += not same
            print(", same" if same else ", DIFFERENT", end="")
        print()
    if not found or different:
        sys.exit(f"{different} of {found} linears differ" if found else "no linear in this layout")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
