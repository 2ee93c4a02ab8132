#!/usr/bin/env python3
"""The operations of `paring bench` in PyTorch, on the same device and at the same shapes.

    scripts/gpu-check.py [--device cuda] [--shapes llama-7b,llama-3-8b] [--seconds 120]
    scripts/gpu-check.py --verify GOLDEN

Prints one JSON object: rates, and for each operation the median of its times. What is measured is how the published
programs do it: SparseGPT and GPTQ visit the columns one by one in slices of 128, each step a handful of tensor
operations (arXiv 2301.00774, section 3.3; arXiv 2210.17323, algorithm 1); the factor is a Cholesky factor, the inverse
from it, and the upper Cholesky factor of that; a threshold comes from sorting a slice. The rest is what PyTorch has.
TF32 is off. No operation is begun after --seconds; what was left out is listed. scripts/gpu-check runs this.

--verify compares the loops with the golden cases in a folder (tests/golden/algorithms): that they remove and round as the
published programs do. Needs torch, and --verify safetensors.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    sys.exit(f"error: {error}: give scripts/gpu-check a Python that has PyTorch (--python)")

SLICE = 128
RUNS = 3

# As in crates/paring/src/bench/shapes.rs: layers, heads, heads of keys, size of a head, tokens, squares, copied bytes.
SHAPES = {
    "tiny": ([(64, 64), (96, 64), (64, 160)], 4, 2, 16, 96, 96, 1 << 16),
    "small": ([(512, 512), (1408, 512), (512, 1408)], 8, 4, 64, 512, 1024, 64 << 20),
    "llama-7b": ([(4096, 4096), (11008, 4096), (4096, 11008)], 32, 32, 128, 2048, 8192, 1 << 30),
    "llama-3-8b": ([(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)], 32, 8, 128, 2048, 8192, 1 << 30),
}


class Grid:
    """Integers of some bits with a scale and a zero for each row, fitted to the least and the largest number."""

    def __init__(self, bits):
        self.most = 2**bits - 1

    def fit(self, columns):
        low, high = columns.amin(1).clamp(max=0), columns.amax(1).clamp(min=0)
        empty = (low == 0) & (high == 0)
        low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
        self.scale = (high - low) / self.most
        self.zero = torch.round(-low / self.scale)

    def codes(self, column):
        return torch.clamp(torch.round(column / self.scale) + self.zero, 0, self.most)

    def rounded(self, column):
        return self.scale * (self.codes(column) - self.zero)


def sweep(weight, upper, sparsity=None, pattern=None, grid=None, group=0):
    """The column loop: what is removed becomes zero, the rest goes to its grid, and the columns ahead make up for it.

    `pattern` is (removed, of). Without groups the grid is fitted already. Returns the new weight.
    """
    weight = weight.clone()
    cols = weight.shape[1]
    for first in range(0, cols, SLICE):
        end = min(first + SLICE, cols)
        now = weight[:, first:end].clone()
        errors = torch.zeros_like(now)
        inside = upper[first:end, first:end]
        diagonal = torch.diagonal(inside)
        removed = torch.zeros_like(now, dtype=torch.bool)
        if sparsity is not None:
            scores = now**2 / diagonal**2
            threshold = torch.sort(scores.flatten())[0][int(scores.numel() * sparsity)]
            removed = scores <= threshold
        for j in range(end - first):
            if grid is not None and group > 0 and (first + j) % group == 0:
                grid.fit(weight[:, first + j : min(first + j + group, cols)])
            if pattern is not None and j % pattern[1] == 0:
                scores = now[:, j : j + pattern[1]] ** 2 / diagonal[j : j + pattern[1]] ** 2
                removed.scatter_(1, j + torch.topk(scores, pattern[0], dim=1, largest=False)[1], True)
            old = now[:, j]
            new = torch.where(removed[:, j], 0.0, old)
            if grid is not None:
                new = grid.rounded(new)
            error = (old - new) / diagonal[j]
            now[:, j:] -= torch.outer(error, inside[j, j:])
            now[:, j] = new
            errors[:, j] = error
        weight[:, first:end] = now
        weight[:, end:] -= errors @ upper[first:end, end:]
    return weight


def upper_factor(gram):
    """The upper Cholesky factor of the inverse, as the published programs find it."""
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)


def damped(gram, share=0.01):
    gram = gram.clone()
    diagonal = torch.diagonal(gram)
    diagonal += share * diagonal.mean()
    return gram


class Bench:
    def __init__(self, device, seconds):
        self.device, self.start, self.budget = torch.device(device), time.perf_counter(), seconds
        self.measured, self.skipped = [], []

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def random(self, *shape):
        return torch.rand(*shape, device=self.device) - 0.5

    def time(self, run):
        def once():
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            return time.perf_counter() - start

        first = once()
        # What takes long needs less warming up, and fewer runs.
        if first > 5:
            return first
        return statistics.median(once() for _ in range(RUNS if first < 0.5 else 1))

    def measure(self, operation, shape, begin, run):
        entry = {"operation": operation, "shape": list(shape)}
        if time.perf_counter() - self.start > self.budget:
            self.skipped.append({**entry, "reason": f"no time left of {self.budget} s"})
            return
        try:
            state = begin()
            self.measured.append({**entry, "seconds": self.time(lambda: run(*state))})
        except RuntimeError as error:
            self.skipped.append({**entry, "reason": str(error).splitlines()[0]})
        state = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def rates(self, square, copied):
        x = self.random(copied // 4)
        copy = 2 * x.numel() * 4 / self.time(lambda: x.clone())
        a, b = self.random(square, square), self.random(square, square)
        f32 = 2 * square**3 / self.time(lambda: a @ b)
        a, b = a.bfloat16(), b.bfloat16()
        return {"copy": copy, "f32": f32, "bf16": 2 * square**3 / self.time(lambda: a @ b)}

    def shapes(self, name):
        layers, heads, groups, head, tokens, square, copied = SHAPES[name]
        rates = self.rates(square, copied)
        widths = sorted({cols for _, cols in layers})

        # Layers of as many columns follow each other, so one matrix of a kind at a time is enough.
        @functools.lru_cache(maxsize=1)
        def gram_of(dim):
            x = self.random(tokens, dim)
            return damped(2 * x.t() @ x)

        factor_of = functools.lru_cache(maxsize=1)(lambda dim: upper_factor(gram_of(dim)))

        for dim in widths:
            self.measure("gram", (tokens, dim), lambda: (self.random(tokens, dim),), lambda x: x.t() @ x)
            self.measure("factor", (dim, dim), lambda: (gram_of(dim),), upper_factor)
        ways = {
            "sweep-sparsegpt-50": lambda: {"sparsity": 0.5},
            "sweep-sparsegpt-2of4": lambda: {"pattern": (2, 4)},
            "sweep-gptq-g128": lambda: {"grid": Grid(4), "group": 128},
            "sweep-gptq-g64": lambda: {"grid": Grid(4), "group": 64},
            "sweep-2of4-int4": lambda: {"pattern": (2, 4), "grid": Grid(4), "group": 128},
        }
        for rows, cols in layers:
            weight = lambda: self.random(rows, cols)
            self.measure(
                "quadratic", (rows, cols), lambda: (weight(), gram_of(cols)), lambda w, h: ((w @ h) * w).sum()
            )
            scores = lambda: (self.random(rows, min(SLICE, cols)) ** 2,)
            middle = rows * min(SLICE, cols) // 2
            self.measure("select", (rows, min(SLICE, cols)), scores, lambda s: torch.sort(s.flatten())[0][middle])
            for operation, way in ways.items():
                self.measure(
                    operation,
                    (rows, cols),
                    lambda: (weight(), factor_of(cols)),
                    lambda w, u: sweep(w, u, **way()),
                )
            for kind in (torch.float32, torch.bfloat16):
                pair = lambda: (self.random(tokens, cols).to(kind), weight().to(kind))
                operation = "matmul-" + ("f32" if kind == torch.float32 else "bf16")
                self.measure(operation, (rows, cols), pair, F.linear)
        dim = heads * head
        for kind in (torch.float32, torch.bfloat16):

            def parts():
                heads_of = lambda count: self.random(1, count, tokens, head).to(kind)
                key, value = (heads_of(groups).repeat_interleave(heads // groups, 1) for _ in range(2))
                return heads_of(heads), key, value

            attention = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
            operation = "attention-" + ("f32" if kind == torch.float32 else "bf16")
            self.measure(operation, (tokens, dim), parts, attention)
        x = lambda: self.random(tokens, dim)
        norm = lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w
        self.measure("norm", (tokens, dim), lambda: (x(), self.random(dim)), norm)
        self.measure("swiglu", (tokens, dim), lambda: (x(), x()), lambda gate, up: F.silu(gate) * up)
        self.measure("add", (tokens, dim), lambda: (x(), x()), torch.add)
        self.measure("mask", layers[0], lambda: (self.random(*layers[0]),), mask)
        for bits in (2, 4, 8):
            codes = lambda: (torch.randint(0, 2**bits, layers[0], device=self.device, dtype=torch.uint8),)
            self.measure(f"pack-{bits}", layers[0], codes, lambda c: pack(c, bits))
            words = lambda: (pack(*codes(), bits),)
            self.measure(f"unpack-{bits}", layers[0], words, lambda w: unpack(w, bits))
        return rates


def pack(codes, bits):
    """Codes of a width that divides 32, as words; the number of columns is a multiple of what a word holds."""
    words = codes.to(torch.int32).unflatten(1, (-1, 32 // bits))
    shifts = torch.arange(0, 32, bits, device=codes.device, dtype=torch.int32)
    return (words << shifts).sum(-1, dtype=torch.int32)


def unpack(words, bits):
    shifts = torch.arange(0, 32, bits, device=words.device, dtype=torch.int32)
    return (words[..., None] >> shifts & 2**bits - 1).to(torch.uint8).flatten(1)


def mask(x):
    """Marks of what is not zero, eight in a byte."""
    bits = (x != 0).unflatten(1, (-1, 8)).to(torch.uint8)
    return (bits << torch.arange(8, device=x.device, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def verify(folder):
    """Holds the loops to the golden cases that they cover."""
    from safetensors import safe_open

    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    plain = {"algo", "sparsity", "prunen", "prunem", "bits", "groupsize", "sym"}
    seen = {"sparsegpt": 0, "gptq": 0}
    bad = []
    for case in index:
        settings = case["settings"]
        if settings["algo"] not in seen or case["match"] != "exact":
            continue
        if any(settings.get(key) for key in set(settings) - plain) or settings.get("sym"):
            continue
        with safe_open(os.path.join(folder, f"{case['problem']}.inputs.safetensors"), "pt") as file:
            weight, gram = file.get_tensor("weight"), file.get_tensor("hessian")
        grid = Grid(int(settings["bits"])) if "bits" in settings else None
        if grid is not None:
            grid.fit(weight)
        # Dead columns are cleared and get a diagonal of 1.
        dead = torch.diagonal(gram) == 0
        gram[dead, dead] = 1
        weight[:, dead] = 0
        pattern = (settings["prunen"], settings["prunem"]) if "prunen" in settings else None
        made = sweep(
            weight,
            upper_factor(damped(gram)),
            sparsity=None if pattern else settings.get("sparsity"),
            pattern=pattern,
            grid=grid,
            group=int(settings.get("groupsize", -1)),
        )
        with safe_open(os.path.join(folder, case["file"]), "pt") as file:
            read = lambda name: file.get_tensor(f"{case['id']}/{name}")
            if f"{case['id']}/weight" in file.keys():
                want = read("weight")
            else:
                size = int(settings.get("groupsize", -1))
                size = size if size > 0 else weight.shape[1]
                scales, zeros = (read(name).repeat_interleave(size, 1)[:, : weight.shape[1]] for name in ("scales", "zeros"))
                want = scales * (read("codes") - zeros)
        seen[settings["algo"]] += 1
        off = (made - want).abs().max().item()
        # A weight that was removed or rounded otherwise would be off by hundredths.
        if off > 1e-4:
            bad.append(f"{case['problem']} {case['id']}: weights differ by {off:.1e}")
    print(f"{sum(seen.values())} cases ({seen}), {len(bad)} differ")
    sys.exit("\n".join(bad) if bad or not all(seen.values()) else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="llama-7b,llama-3-8b", help=", ".join(SHAPES))
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--verify", metavar="GOLDEN")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if args.verify:
        verify(args.verify)
    names = args.shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        parser.error(f"--shapes {unknown[0]}: there are {', '.join(SHAPES)}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("error: this PyTorch sees no CUDA device")
    torch.manual_seed(0)
    found = {"torch": torch.__version__, "benches": []}
    each = args.seconds / len(names)
    for name in names:
        bench = Bench(args.device, each)
        rates = bench.shapes(name)
        found["benches"].append({"shapes": name, "rates": rates, "measured": bench.measured, "skipped": bench.skipped})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
