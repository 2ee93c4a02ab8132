#!/usr/bin/env python3
"""Makes the files of tests/golden/pickles with torch.save: the same small tensors in each way they come.

    python scripts/make-pickle-fixtures.py [--out tests/golden/pickles]

`expected.safetensors` holds what the files should read as, under the names they have there. The files that must be
refused are made here too: one whose pickle would run a command, one with compressed entries, one whose directory lies
about a size.
"""

import argparse
import collections
import json
import os
import struct
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file


class Command:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return os.system, ("touch a-pickle-was-run",)


def tensors():
    generator = torch.Generator().manual_seed(4)
    random = lambda *shape: torch.randn(*shape, generator=generator)
    return collections.OrderedDict({
        "wte.weight": random(6, 4),
        "h.0.weight": random(3, 4).to(torch.bfloat16),
        "h.0.bias": random(3).half(),
        "h.0.scale": random(()).double(),
        "h.0.mask": torch.tensor([[True, False], [False, True]]),
        "ids": torch.arange(-3, 4),
        "small": torch.arange(-3, 4, dtype=torch.int8),
        "empty": torch.zeros(0, 5),
    })


def lying(path, source):
    """The file with the last storage said to be larger than the whole file."""
    data = bytearray(source.read_bytes())
    last = max(i for i in range(len(data)) if data[i:i + 4] == b"PK\x01\x02" and b"/data/" in data[i:i + 80])
    struct.pack_into("<II", data, last + 20, 1 << 20, 1 << 20)
    path.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "tests" / "golden" / "pickles")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    print(f"torch {torch.__version__}")

    plain = tensors()
    torch.save(plain, out / "plain.bin")
    torch.save(plain, out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(plain, out / "protocol4.bin", pickle_protocol=4)
    torch.save({"epoch": 3, "state_dict": plain}, out / "nested.bin")
    # A module's own state dict has versions attached, and parameters instead of tensors where it is asked for.
    module = torch.nn.Linear(4, 3)
    module.weight.data, module.bias.data = plain["wte.weight"][:3].clone(), plain["wte.weight"][4, :3].clone()
    torch.save(module.state_dict(keep_vars=True), out / "module.bin")
    # One storage: twice as it is, transposed, with a step, and its middle.
    base = plain["wte.weight"]
    views = {"twice": base, "turned": base.t(), "step": base[::2, 1:3], "middle": base[2:4], "column": base[:, :1]}
    torch.save({"first": base, **views}, out / "views.bin")
    wide = {"float8": base.to(torch.float8_e4m3fn), "uint32": torch.tensor([0, 1, 2**32 - 1], dtype=torch.uint32)}
    torch.save(wide, out / "untyped.bin")

    names = list(plain)
    shards = {"pytorch_model-00001-of-00002.bin": names[:3], "pytorch_model-00002-of-00002.bin": names[3:]}
    folder = out / "sharded"
    folder.mkdir(exist_ok=True)
    for file, held in shards.items():
        torch.save({name: plain[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text("{}\n")

    ids = torch.arange(24).reshape(3, 8)
    torch.save(ids, out / "tokens.pth")
    torch.save([row[None] for row in ids], out / "token-list.pth")
    torch.save([(row[None], torch.full((1, 8), -100)) for row in ids], out / "token-pairs.pth")

    torch.save({**plain, "x": Command()}, out / "command.bin")
    torch.save({**plain, "x": Command()}, out / "command-legacy.bin", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(out / "plain.bin") as source, \
            zipfile.ZipFile(out / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    lying(out / "lying.bin", out / "plain.bin")

    expected = {name: tensor for name, tensor in plain.items()}
    expected |= {"weight": module.weight.data, "bias": module.bias.data}
    expected |= {name: view.contiguous().clone() for name, view in {"first": base, **views}.items()}
    expected |= {"float8": wide["float8"], "uint32": wide["uint32"], "tokens": ids}
    save_file(expected, out / "expected.safetensors")
    for path in sorted(out.rglob("*")):
        print(path.relative_to(out), path.stat().st_size if path.is_file() else "")


if __name__ == "__main__":
    main()
