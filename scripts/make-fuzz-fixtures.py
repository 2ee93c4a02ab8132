#!/usr/bin/env python3
"""Makes the inputs that fuzz targets begin with, under tests/golden/fuzz: small valid files of each kind, and some that
are broken in one place. Those of layouts and configurations of quantizations come from golden files (fuzz/src/seeds.rs).

    python scripts/make-fuzz-fixtures.py [--out tests/golden/fuzz]

Needs torch and tokenizers. What fuzzing found lies in the same folders, under `found-…`, and is left alone.
"""

import argparse
import gzip
import io
import json
import shutil
import struct
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden"


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def headers():
    two = {"__metadata__": {"format": "pt"}, "a.weight": tensor("F32", [2, 3], 0, 24), "b": tensor("BF16", [4], 24, 32)}
    data = bytes(range(32))
    yield "two", safetensors(two, data)
    yield "scalar", safetensors({"s": tensor("F64", [], 0, 8)}, bytes(8))
    yield "empty", safetensors({})
    yield "no-elements", safetensors({"e": tensor("I64", [0, 9], 0, 0)})
    yield "hole", safetensors({**two, "b": tensor("BF16", [4], 26, 34)}, data + b"xx")
    yield "overlap", safetensors({**two, "b": tensor("BF16", [6], 20, 32)}, data)
    yield "beyond", safetensors({**two, "b": tensor("BF16", [1 << 40], 24, 24 + (1 << 41))}, data)
    yield "overflow", safetensors({"a": tensor("U8", [1 << 32, 1 << 32], 0, 0)})
    yield "twice", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    yield "longer-than-the-file", struct.pack("<Q", 1 << 63) + b"{}"


def indexes():
    good = {"metadata": {"total_size": 6}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    yield "two", json.dumps(good).encode()
    yield "outside", json.dumps({"weight_map": {"a": "../1.safetensors"}}).encode()
    yield "absolute", json.dumps({"weight_map": {"a": "/etc/passwd"}}).encode()
    yield "swapped", json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}}).encode()
    yield "twice", b'{"weight_map": {"a": "1.safetensors", "a": "2.safetensors", "b": "2.safetensors"}}'
    yield "other-types", b'{"weight_map": {"a": 1, "b": null}}'


def pickles():
    def saved(value, **how):
        out = io.BytesIO()
        torch.save(value, out, **how)
        return out.getvalue()

    state = {"a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    yield "pickle", "zip", saved(state)
    yield "pickle", "legacy", saved(state, _use_new_zipfile_serialization=False)
    yield "pickle", "wrapped", saved({"state_dict": state})
    yield "pickle", "strided", saved({"a": torch.arange(6).reshape(2, 3).t(), "c": torch.nn.Parameter(torch.ones(2))})
    rows = torch.arange(8).reshape(2, 4)
    yield "pickled-tokens", "rows", saved(rows)
    yield "pickled-tokens", "list", saved([rows[:1], rows[1:]])
    yield "pickled-tokens", "pairs", saved([(rows[:1], rows[:1])], _use_new_zipfile_serialization=False)
    yield "pickled-tokens", "negative", saved(-rows)


def token_files():
    ids = struct.pack("<8q", *range(8))
    yield "rows", safetensors({"input_ids": tensor("I64", [2, 4], 0, 64)}, ids)
    yield "narrow", safetensors({"input_ids": tensor("U8", [4, 2], 0, 8)}, bytes(range(8)))
    yield "floats", safetensors({"input_ids": tensor("F32", [2, 2], 0, 16)}, bytes(16))
    yield "no-rows", safetensors({"input_ids": tensor("I32", [0, 4], 0, 0)})


def model_configs():
    for folder in sorted(GOLDEN.glob("models/*/config.json")):
        config = json.loads(folder.read_text())
        if folder.parent.name in ("llama", "mistral_window", "qwen2_layers", "qwen3", "rope_llama3", "opt", "falcon_7b"):
            yield folder.parent.name, json.dumps(config).encode()
    config = json.loads((GOLDEN / "models/llama/config.json").read_text())
    yield "many", json.dumps({**config, "num_hidden_layers": 10**9, "hidden_size": 2**40}).encode()
    yield "wide", json.dumps({**config, "hidden_size": 2**20, "intermediate_size": 2**22}).encode()
    yield "nested", b'{"a":' * 100 + b"1" + b"}" * 100


def tokenizers():
    words = {"[UNK]": 0, "one": 1, "two": 2, "<s>": 3}
    level = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    level.pre_tokenizer = pre_tokenizers.Whitespace()
    level.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 3)])
    level.add_special_tokens(["<s>"])
    yield "words", level
    bpe = Tokenizer(models.BPE({"o": 0, "n": 1, "e": 2, "on": 3, "one": 4, "t": 5, "w": 6, "Ġ": 7},
                               [("o", "n"), ("on", "e")], byte_fallback=False))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(r"\p{N}{1,3}|\s+(?!\S)", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=True)
    yield "bytes", bpe
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -2.0), ("one", -1.5), ("o", -3.0), ("two", -2.5)], unk_id=0))
    pieces.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    yield "pieces", pieces
    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "one": 1, "##ne": 2, "o": 3, "##wo": 4, "t": 5}, unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.post_processor = processors.BertProcessing(("o", 3), ("t", 5))
    yield "wordpiece", wordpiece


def lines():
    texts = b'{"text": "one two one"}\n\n{"text": "two two", "more": [1, {"a": null}]}\n'
    chat = json.dumps({"messages": [{"role": "user", "content": "one two one two"}]}).encode() + b"\n"
    yield "texts", b"\0" + texts
    yield "messages", b"\1" + chat
    yield "twice", b'\0{"text": "one", "text": "two two two two"}\n'
    yield "escapes", b'\0{"text": "one \\u00e9 \\ud83d\\ude00 two one two"}\n'


def zstd(content):
    """A frame of one raw block."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + struct.pack("<I", len(content) << 3 | 1)[:3] + content


def packed():
    texts = b'{"text": "one two one"}\n{"text": "two two two"}\n'
    yield "gzip", b"\0" + gzip.compress(texts, mtime=0)
    yield "gzip-pieces", b"\0" + gzip.compress(texts[:10], mtime=0) + gzip.compress(texts[10:], mtime=0)
    yield "gzip-of-spaces", b"\0" + gzip.compress(b'{"text": "' + b"one " * 5000 + b'"}', mtime=0)
    yield "zstd", b"\x80" + zstd(texts)
    yield "zstd-skipped", b"\x80" + struct.pack("<II", 0x184D2A50, 3) + b"abc" + zstd(texts)
    # A window of 2 MiB and a block of one byte, a hundred thousand times.
    yield "zstd-of-spaces", b"\x80\x28\xb5\x2f\xfd\x00\x58" + struct.pack("<I", 100_000 << 3 | 3)[:3] + b" "


def templates():
    yield "chatml", (b"{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'].strip() }}"
                     b"{% if loop.last and add_generation_prompt %}x{% endif %}{% endfor %}")
    yield "macros", (b"{% macro put(m) %}{{ m.content | tojson(indent=2) }}{% endmacro %}{% set ns = namespace(n=0) %}"
                     b"{% for m in messages if m.role != 'system' %}{% set ns.n = ns.n + 1 %}{{ put(m) }}{% endfor %}")
    yield "raises", b"{{ raise_exception('no system') }}"


def hub_lists():
    commit = "0123456789abcdef0123456789abcdef01234567"
    files = [{"rfilename": "config.json", "size": 3}, {"rfilename": "a/model.safetensors", "blobId": "x"}]
    yield "two", json.dumps({"sha": commit, "siblings": files}).encode()
    yield "outside", json.dumps({"sha": commit, "siblings": [{"rfilename": "../x"}]}).encode()


def recipes():
    for path in sorted((ROOT / "configs").glob("*.toml")):
        yield "recipe-toml", path.stem, path.read_bytes()
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        yield "recipe-yaml", path.stem, path.read_bytes()
    yield "recipe-yaml", "groups", b"""stage:
  modifiers:
    - QuantizationModifier:
        config_groups:
          group_0: {targets: [Linear], weights: {num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 16}}
        ignore: [lm_head]
"""
    yield "recipe-yaml", "aliases", b"a: &x [1, 2]\nb: *x\n"
    yield "recipe-toml", "lists", b'ignore = ["a", "re:.*b"]\n[[override]]\ntargets = ["c"]\nskip = true\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDEN / "fuzz")
    out = parser.parse_args().out

    def put(target, name, content):
        (out / target).mkdir(parents=True, exist_ok=True)
        (out / target / name).write_bytes(content)

    kinds = [("header", headers), ("index", indexes), ("token-file", token_files), ("model-config", model_configs),
             ("jsonl", lines), ("packed-lines", packed), ("chat-template", templates), ("hub-list", hub_lists)]
    for target, make in kinds:
        for name, content in make():
            put(target, name, content)
    for made in (pickles, recipes):
        for target, name, content in made():
            put(target, name, content)
    for name, tokenizer in tokenizers():
        put("tokenizer", name, json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False).encode())
    for path in sorted((GOLDEN / "data").glob("*.parquet")):
        put("parquet", path.stem, (b"\1" if path.stem.startswith("chat") else b"\0") + path.read_bytes())
    for name in ("command.bin", "compressed.bin", "lying.bin"):
        shutil.copyfile(GOLDEN / "pickles" / name, out / "pickle" / name)


if __name__ == "__main__":
    main()
