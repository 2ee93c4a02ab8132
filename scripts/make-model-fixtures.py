#!/usr/bin/env python3
"""Makes the tiny Llama models of tests/golden/models with transformers, and the logits it computes for them.

    python scripts/make-model-fixtures.py [--out tests/golden/models] [NAME ...]

Each folder is an ordinary checkpoint (config.json, model.safetensors) plus expected.safetensors: for each length N the
token ids `ids_N` and the float32 logits `logits_N` of every position. Weights are random and large enough that
attention is sharp, so that a wrong angle shows. The folder `llama` comes from elsewhere and is left alone.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

BASE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2,
)

# name: (changes to BASE, stored dtype, lengths, whether rope goes back to the older keys rope_scaling and rope_theta)
FIXTURES = {
    "rope_linear": (
        dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1000.0)), "bfloat16", [1, 13, 40], False),
    "rope_dynamic": (
        dict(rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0), max_position_embeddings=16),
        "bfloat16", [8, 16, 17, 40], True),
    # Wavelengths 6, 30, 140 and 664: kept, kept, interpolated, stretched.
    "rope_llama3": (
        dict(rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                  original_max_position_embeddings=256, rope_theta=500.0)),
        "bfloat16", [5, 64], True),
    "bias_tied": (
        dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_key_value_heads=1), "float32",
        [2, 30], False),
    "wide_heads": (
        dict(head_dim=16, num_hidden_layers=2, num_key_value_heads=2, intermediate_size=24,
             rope_parameters=dict(rope_type="default", rope_theta=300.0)), "float16", [7, 33], True),
}


def randomize(model, generator):
    """Larger weights than usual, norms around one, biases that are not zero."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1 + 0.2 * noise
        elif "embed_tokens" in name or name.endswith("bias"):
            parameter.data = noise if "embed_tokens" in name else 0.5 * noise
        else:
            parameter.data = noise * 1.5 / parameter.shape[-1] ** 0.5


def older_keys(path):
    """Rewrites the rope parameters as files before rope_parameters had them."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"rope_type" if kind == "llama3" else "type": kind, **rope}
    path.write_text(json.dumps(config, indent=2) + "\n")


def make(folder, changes, dtype, lengths, older):
    generator = torch.Generator().manual_seed(sum(map(ord, folder.name)))
    model = LlamaForCausalLM._from_config(LlamaConfig(**{**BASE, **changes}), attn_implementation="eager")
    randomize(model, generator)
    model.tie_weights()
    stored = getattr(torch, dtype)
    model = model.to(stored)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        older_keys(folder / "config.json")
    # Read back, so that the expected logits are those of the files.
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    expected = {}
    for length in sorted(lengths):
        ids = torch.randint(0, BASE["vocab_size"], (1, length), generator=generator)
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits
        expected[f"ids_{length}"] = ids[0]
        expected[f"logits_{length}"] = logits[0].float().contiguous()
    save_file(expected, folder / "expected.safetensors")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder.name}: {size} bytes, logits up to {logits.abs().max():.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "tests" / "golden" / "models")
    parser.add_argument("names", nargs="*", help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for name, fixture in FIXTURES.items():
        if not args.names or name in args.names:
            folder = args.out / name
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, *fixture)


if __name__ == "__main__":
    main()
