#!/usr/bin/env python3
"""Makes the logits that models with quantized activations give in float32, with transformers and compressed-tensors.

    python scripts/make-activation-fixtures.py [--models tests/golden/ct_models] [--out .../activations.safetensors]

The logits stored beside the models are those of the model's own type: bfloat16 rounds every step of the forward pass,
which moves some activations to a neighbouring code. Here the weights are decompressed in the model's type and all that
follows is float32: scales of tokens and groups are then found in float32 as well. The result holds, for each model whose
config quantizes activations or caches, a tensor of its folder's name: the logits [1, tokens, vocab] of its `input_ids`.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig


def quantizes_activations(folder):
    quant = json.loads((folder / "config.json").read_text()).get("quantization_config") or {}
    groups = quant.get("config_groups", {}).values()
    return bool(quant.get("kv_cache_scheme")) or any(group.get("input_activations") for group in groups)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("tests/golden/ct_models"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logits = {}
    for folder in sorted(path.parent for path in args.models.glob("*/config.json")):
        if not quantizes_activations(folder):
            continue
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto",
                                                     quantization_config=CompressedTensorsConfig(dequantize=True))
        ids = load_file(folder / "expected.safetensors")["input_ids"]
        with torch.no_grad():
            model(ids)
            for module in model.modules():
                for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                    if tensor.dtype in (torch.bfloat16, torch.float16):
                        tensor.data = tensor.data.float()
            result = model(ids).logits.float().contiguous()
        stored = load_file(folder / "expected.safetensors")["logits"].float()
        weights = load_file(folder / "expected.safetensors")["logits_f32"].float()
        print(f"{folder.name}: off its own type's logits by {(result - stored).abs().max():.3g}, "
              f"off unquantized activations by {(result - weights).abs().max():.3g}")
        logits[folder.name] = result
    save_file(logits, args.out or args.models / "activations.safetensors")


if __name__ == "__main__":
    main()
