#!/usr/bin/env python3
"""Makes the tiny models of tests/golden/models with transformers, and what it computes for them.

    python scripts/make-model-fixtures.py [--out tests/golden/models] [NAME ...]

Each folder is an ordinary checkpoint (config.json, model.safetensors) plus expected.safetensors: for each length N the
token ids `ids_N` and the float32 logits `logits_N` of every position. Families other than Llama also have `nll_N`, the
sum of -log p(next token) over the window, and, for one length, `tap_N.MODULE` [1, N, cols]: the input of every linear
inside the blocks, named as transformers names the module. Weights are random and large enough that attention is sharp,
so that a wrong angle shows. The folder `llama` comes from elsewhere and is left alone.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = dict(vocab_size=64, hidden_size=32, num_attention_heads=4, max_position_embeddings=64, bos_token_id=1,
             eos_token_id=2)
LLAMA = dict(intermediate_size=40, num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=False)

# model_type: what its fixtures share
FAMILIES = {
    "llama": dict(**SMALL, **LLAMA, num_hidden_layers=1),
    "mistral": dict(**SMALL, **LLAMA, num_hidden_layers=2),
    "qwen2": dict(**SMALL, **LLAMA, num_hidden_layers=2),
    "qwen3": dict(**SMALL, **LLAMA, num_hidden_layers=2, head_dim=16),
    "opt": dict(**SMALL, ffn_dim=48, num_hidden_layers=2),
    "falcon": dict(**SMALL, num_hidden_layers=2),
}


def older_rope(config):
    """The rope parameters as files before rope_parameters had them."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"rope_type" if kind == "llama3" else "type": kind, **rope}


def older_qwen2(config):
    """Before layer_types, when the window was in every file and use_sliding_window said whether it counts."""
    older_rope(config)
    del config["layer_types"]
    config["sliding_window"] = 6


def refined_web(config, weights):
    """As the first releases of Falcon were: RefinedWebModel (one key head) and RefinedWeb (groups), head stored twice.

    transformers has no such model any more, so these folders are disguised after their logits are known.
    """
    grouped = config["new_decoder_architecture"]
    kept = ("attention_dropout", "bos_token_id", "eos_token_id", "hidden_dropout", "hidden_size", "initializer_range",
            "layer_norm_epsilon", "use_cache", "vocab_size", "alibi", "bias", "parallel_attn")
    old = {key: config[key] for key in kept}
    old.update(
        apply_residual_connection_post_layernorm=False, architectures=["RWForCausalLM"],
        model_type="RefinedWeb" if grouped else "RefinedWebModel", n_head=config["num_attention_heads"],
        n_layer=config["num_hidden_layers"], torch_dtype=config["dtype"], transformers_version="4.27.4",
        **(dict(n_head_kv=config["num_kv_heads"]) if grouped else dict(multi_query=True)),
    )
    weights["lm_head.weight"] = weights["transformer.word_embeddings.weight"].clone()
    return old, weights


def fixture(family, lengths, dtype="float32", older=None, disguise=None, **changes):
    """`older` changes config.json before it is read back, `disguise` both files after; `changes` are to FAMILIES."""
    return SimpleNamespace(family=family, lengths=lengths, dtype=dtype, older=older, disguise=disguise, changes=changes)


FIXTURES = {
    "rope_linear": fixture(
        "llama", [1, 13, 40], "bfloat16",
        rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1000.0)),
    "rope_dynamic": fixture(
        "llama", [8, 16, 17, 40], "bfloat16", older_rope,
        rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0), max_position_embeddings=16),
    # Wavelengths 6, 30, 140 and 664: kept, kept, interpolated, stretched.
    "rope_llama3": fixture(
        "llama", [5, 64], "bfloat16", older_rope,
        rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=256, rope_theta=500.0)),
    "bias_tied": fixture(
        "llama", [2, 30], attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_key_value_heads=1),
    "wide_heads": fixture(
        "llama", [7, 33], "float16", older_rope, head_dim=16, num_hidden_layers=2, intermediate_size=24,
        rope_parameters=dict(rope_type="default", rope_theta=300.0)),

    # Windows that cut (of 5), and lengths up to, at and beyond them.
    "mistral_window": fixture("mistral", [5, 6, 24], sliding_window=5),
    "mistral_full": fixture("mistral", [6, 24], "bfloat16", older_rope, sliding_window=None, head_dim=16),
    # The file names a window of 6 and says that it is not used.
    "qwen2": fixture("qwen2", [6, 24], "bfloat16", older_qwen2, tie_word_embeddings=True),
    # Used from layer 1 on, by max_window_layers; then by layer_types, which say what max_window_layers does not.
    "qwen2_window": fixture(
        "qwen2", [6, 7, 24], "bfloat16", older_qwen2, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "qwen2_layers": fixture(
        "qwen2", [6, 7, 24], "bfloat16", use_sliding_window=True, sliding_window=6, max_window_layers=2,
        layer_types=["sliding_attention", "full_attention"]),
    "qwen3": fixture(
        "qwen3", [6, 24], "bfloat16", older_rope, rope_parameters=dict(rope_type="default", rope_theta=300.0)),

    "opt_plain": fixture("opt", [1, 9, 40]),
    "opt_350m": fixture("opt", [9, 40], do_layer_norm_before=False, word_embed_proj_dim=16),
    "opt_bare": fixture("opt", [9, 40], "bfloat16", enable_bias=False, layer_norm_elementwise_affine=False),
    "opt_gelu": fixture("opt", [2, 9], "bfloat16", activation_function="gelu", num_hidden_layers=1),
    "opt_untied": fixture("opt", [9, 64], "float16", tie_word_embeddings=False),

    "falcon_7b": fixture("falcon", [1, 9, 40], multi_query=True, parallel_attn=True),
    "falcon_40b": fixture("falcon", [9, 40], "bfloat16", new_decoder_architecture=True, num_kv_heads=2),
    "falcon_11b": fixture(
        "falcon", [9, 40], "bfloat16", older_rope, new_decoder_architecture=True, num_kv_heads=2,
        num_ln_in_parallel_attn=1, ffn_hidden_size=40, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    # Twelve heads: slopes of both kinds, some of which bfloat16 rounds.
    "falcon_rw": fixture(
        "falcon", [5, 32], "bfloat16", hidden_size=48, num_attention_heads=12, alibi=True, bias=True, multi_query=False,
        parallel_attn=False),
    "falcon_heads": fixture("falcon", [9, 40], "bfloat16", multi_query=False, parallel_attn=True, bias=True),
    "falcon_old": fixture(
        "falcon", [9, 40], "bfloat16", disguise=refined_web, new_decoder_architecture=True, num_kv_heads=2),
    "falcon_old_7b": fixture("falcon", [9, 40], "bfloat16", disguise=refined_web, multi_query=True),
}


def randomize(model, generator):
    """Larger weights than usual, norms around one, biases that are not zero."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            parameter.data = 0.5 * noise
        elif parameter.ndim == 1:  # a norm, whatever its name
            parameter.data = 1 + 0.2 * noise
        elif "embed" in name:
            parameter.data = noise
        else:
            parameter.data = noise * 1.5 / parameter.shape[-1] ** 0.5


def watch(model, expected, length):
    """Hooks that put the inputs of the blocks' linears into `expected`, one row per position."""
    def hook(name):
        def see(_, inputs):
            rows = inputs[0].detach()
            expected[f"tap_{length}.{name}"] = rows.reshape(1, length, rows.shape[-1]).clone()
        return see

    return [module.register_forward_pre_hook(hook(name)) for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))]


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=2) + "\n")


def compute(model, what, generator):
    """Ids, logits and the rest, by the names of expected.safetensors."""
    expected = {}
    # Of two lengths the shorter is watched, of three the one in the middle: large files say no more.
    watched = sorted(what.lengths)[min(1, len(what.lengths) - 2)] if what.family != "llama" else None
    for length in sorted(what.lengths):
        ids = torch.randint(0, model.config.vocab_size, (1, length), generator=generator)
        hooks = watch(model, expected, length) if length == watched else []
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits
        for handle in hooks:
            handle.remove()
        expected[f"ids_{length}"] = ids[0]
        expected[f"logits_{length}"] = logits[0].float().contiguous()
        if what.family != "llama":
            loss = torch.nn.functional.cross_entropy(logits[0, :-1].double(), ids[0, 1:], reduction="sum")
            expected[f"nll_{length}"] = loss.float()
    return expected


def make(folder, what):
    generator = torch.Generator().manual_seed(sum(map(ord, folder.name)))
    config = AutoConfig.for_model(what.family, **{**FAMILIES[what.family], **what.changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomize(model, generator)
    model.tie_weights()
    model = model.to(getattr(torch, what.dtype))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if what.older:
        edit(folder / "config.json", what.older)
    # Read back, so that what is expected is what the files give.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    expected = compute(model, what, generator)
    save_file(expected, folder / "expected.safetensors")
    if what.disguise:
        path, weights = folder / "config.json", folder / "model.safetensors"
        config, tensors = what.disguise(json.loads(path.read_text()), load_file(weights))
        path.write_text(json.dumps(config, indent=2) + "\n")
        save_file(tensors, weights, metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in folder.iterdir())
    largest = max(value.abs().max() for name, value in expected.items() if name.startswith("logits"))
    print(f"{folder.name}: {size} bytes, logits up to {largest:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "tests" / "golden" / "models")
    parser.add_argument("names", nargs="*", help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for name, what in FIXTURES.items():
        if not args.names or name in args.names:
            folder = args.out / name
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, what)


if __name__ == "__main__":
    main()
