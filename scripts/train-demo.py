"""Make the demo model: build the text generator, write the tokenizer, train a small Llama, save it in bfloat16.

    python scripts/train-demo.py [--family llama|opt|falcon] [--out DIR] [--work DIR] [--steps N] [--threads N]
                                 [--resume]

The Llama is the demo. The smaller OPT and Falcon are tests/golden/trained, on which the ordering of methods is shown
for these families too; they share the demo's text and its tokenizer, which must be there.

Needs torch, transformers and rustc; everything else, the training text included, comes from this repository.  The
work folder keeps the tokenised text and a checkpoint that --resume goes on from.  The learning rate is constant and
falls linearly over the last part of the steps, so a run that takes too long can be stopped and resumed with a smaller
--steps.  A processor is enough: a run of the default length takes about twenty minutes on two cores for the demo, and
seven on one for the others.
"""
from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "crates/paring-cli/demo"
TRAINED = ROOT / "tests/golden/trained"
GENERATOR = ROOT / "crates/paring-cli/examples/demo_text.rs"

# Generator seeds.  Calibration text is taken from seeds of its own by whoever compresses the model; the training seeds
# stay clear of both.
HELD_OUT_SEED = 1
TRAINING_SEED = 1_000_000
HELD_OUT_WINDOWS = 64

WINDOW = 256
BATCH = 8
TORCH_SEED = 20
WARMUP = 60
DECAY = 0.45  # part of the steps over which the learning rate falls to zero
MATRIX_RATE = 0.012  # Muon, for the weight matrices of the blocks
OTHER_RATE = 3e-3  # AdamW, for the embedding and the norms
WEIGHT_DECAY = 0.02
CHECKPOINT_EVERY = 100
SPREAD = 0.65  # standard deviation of the channel sizes, in powers of two before rounding to whole ones
SPREAD_SEED = 5

@dataclass
class Family:
    """What differs between the models that this script makes."""

    config: type
    model: type
    out: pathlib.Path
    steps: int
    architecture: dict
    # The blocks of a model, and for one block the norms with the matrices that read each.
    blocks: Callable
    readers: Callable


def llama_readers(block):
    attention, mlp = block.self_attn, block.mlp
    return [
        (block.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
        (block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
    ]


def opt_readers(block):
    attention = block.self_attn
    return [
        (block.self_attn_layer_norm, (attention.q_proj, attention.k_proj, attention.v_proj)),
        (block.final_layer_norm, (block.fc1,)),
    ]


def falcon_readers(block):
    return [(block.input_layernorm, (block.self_attention.query_key_value, block.mlp.dense_h_to_4h))]


FAMILIES = {
    "llama": Family(
        transformers.LlamaConfig,
        transformers.LlamaForCausalLM,
        DEMO,
        2300,
        dict(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=256,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            tie_word_embeddings=True,
        ),
        lambda model: model.model.layers,
        llama_readers,
    ),
    "opt": Family(
        transformers.OPTConfig,
        transformers.OPTForCausalLM,
        TRAINED / "opt",
        1200,
        dict(
            hidden_size=96,
            ffn_dim=320,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=256,
            dropout=0.0,
            pad_token_id=None,
        ),
        lambda model: model.model.decoder.layers,
        opt_readers,
    ),
    # Multi-query, rotary, parallel: the 7B.
    "falcon": Family(
        transformers.FalconConfig,
        transformers.FalconForCausalLM,
        TRAINED / "falcon",
        1200,
        dict(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=256,
        ),
        lambda model: model.transformer.h,
        falcon_readers,
    ),
}


def is_demo(family: Family) -> bool:
    return family is FAMILIES["llama"]


def build_generator(work: pathlib.Path) -> pathlib.Path:
    """Compile the example on its own: it needs nothing but the standard library."""
    binary = work / "demo_text"
    subprocess.run(["rustc", "--edition", "2021", "-O", "-o", binary, GENERATOR], check=True)
    return binary


def generate(binary: pathlib.Path, seed: int, words: int) -> tuple[list[str], float]:
    """Words of one sample (line breaks are not words) and the generator's nats per word."""
    command = [binary, "--seed", str(seed), "--words", str(words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split(), float(re.search(r"([\d.]+) nats per word", done.stderr).group(1))


def word_ids(vocabulary: list[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(["<s>", "<unk>"] + vocabulary)}


def write_tokenizer(ids: dict[str, int], length: int, out: pathlib.Path) -> None:
    """One token per word, split at whitespace alone; nothing is added around a text."""
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>", model_max_length=length
    )
    fast.save_pretrained(out)
    path = out / "tokenizer_config.json"
    # The class name that every release knows; newer ones write a name that older ones cannot load.
    config = dict(json.loads(path.read_text()), tokenizer_class="PreTrainedTokenizerFast")
    path.write_text(json.dumps(config, indent=2) + "\n")


def copy_tokenizer(ids: dict[str, int], out: pathlib.Path) -> None:
    """The demo's own, for a model that is not the demo."""
    path = DEMO / "tokenizer.json"
    if json.loads(path.read_text())["model"]["vocab"] != ids:
        raise SystemExit(f"{path} is not the tokenizer of the generator's words: make the demo first")
    shutil.copyfile(path, out / path.name)


def training_tokens(binary: pathlib.Path, ids: dict[str, int], work: pathlib.Path, count: int) -> np.ndarray:
    """At least `count` tokens of fresh text, a row for every place in the batch so that no window is seen twice."""
    path, words = work / "train.npy", -(-count // BATCH)
    if not path.exists() or np.load(path, mmap_mode="r").shape[1] < words:
        rows = []
        for row in range(BATCH):
            text, _ = generate(binary, TRAINING_SEED + row, words)
            rows.append(np.array([ids[w] for w in text[:words]], dtype=np.uint16))
        np.save(path, np.stack(rows))
    return np.load(path)


@torch.no_grad()
def perplexity(model, windows: torch.Tensor) -> float:
    """Mean over the windows; the first token of a window is not predicted."""
    total = 0.0
    for window in windows:
        logits = model(window[None], use_cache=False).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(logits, window[1:]).item()
    return math.exp(total / len(windows))


def new_model(family: Family, vocab_size: int):
    config = family.config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=None, **family.architecture)
    return family.model(config)


def optimizers(model) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon learns the matrices in far fewer tokens than AdamW; the rest has no matrix structure to use."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        (torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY), MATRIX_RATE),
        (torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0), OTHER_RATE),
    ]


def schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


def train(model, data: np.ndarray, steps: int, work: pathlib.Path, resume: bool, report) -> None:
    checkpoint, start = work / "checkpoint.pt", 0
    parts = optimizers(model)
    if resume and checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(parts, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start = state["step"]
    compiled, began, recent = torch.compile(model), time.time(), []
    for step in range(start, steps):
        for optimizer, rate in parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step, steps)
        batch = torch.from_numpy(data[:, step * WINDOW : (step + 1) * WINDOW].astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = compiled(batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in parts:
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        if (step + 1) % 25 == 0:
            speed = (step + 1 - start) * BATCH * WINDOW / (time.time() - began)
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.4f}  {speed:.0f} tokens/s", flush=True)
            recent.clear()
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state = dict(model=model.state_dict(), optimizers=[o.state_dict() for o, _ in parts], step=step + 1)
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
        if (step + 1) % (5 * CHECKPOINT_EVERY) == 0:
            report()


@torch.no_grad()
def spread_channels(family: Family, model) -> None:
    """Give the inputs of the blocks' matrices different sizes, as the channels of large models have.

    Large models grow a few loud channels in long training; one this small and this young has none, and round to
    nearest and magnitude pruning come out nearly as good as the methods that look at the inputs.  So every channel of
    a norm is made louder by a power of two and the columns that read it quieter by the same.  The function of the
    model does not change, not even in the last bit.
    """
    generator = torch.Generator().manual_seed(SPREAD_SEED)
    for block in family.blocks(model):
        for norm, readers in family.readers(block):
            scale = torch.pow(2.0, torch.round(torch.randn(norm.weight.numel(), generator=generator) * SPREAD))
            for parameter in norm.parameters():
                parameter.mul_(scale)
            for reader in readers:
                reader.weight.div_(scale)


def save(family: Family, model, ids: dict[str, int], out: pathlib.Path) -> None:
    """Write model.safetensors and the configuration; of the demo also how to generate: to a paragraph's end."""
    if is_demo(family):
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=0, eos_token_id=ids["."], do_sample=True, temperature=1.0
        )
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    path = out / "config.json"
    config = json.loads(path.read_text())
    config["eos_token_id"] = ids["."]
    if is_demo(family):
        # Readers older than the nested rope_parameters look for the flat key.
        config["rope_theta"] = family.architecture["rope_theta"]
    else:
        (out / "generation_config.json").unlink(missing_ok=True)
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, default="llama")
    parser.add_argument("--out", type=pathlib.Path, help="default: where the repository has the model")
    parser.add_argument("--work", type=pathlib.Path, help="default: target/demo, or target/trained-FAMILY")
    parser.add_argument("--steps", type=int, help="default: as the committed model of the family")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the work folder")
    args = parser.parse_args()
    family = FAMILIES[args.family]
    out = args.out or family.out
    work = args.work or ROOT / "target" / ("demo" if is_demo(family) else f"trained-{args.family}")
    steps = args.steps or family.steps
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(TORCH_SEED)
    transformers.logging.set_verbosity_error()

    binary = build_generator(work)
    listed = subprocess.run([binary, "--vocabulary"], check=True, capture_output=True, text=True).stdout.split()
    ids = word_ids(listed)
    if is_demo(family):
        write_tokenizer(ids, family.architecture["max_position_embeddings"], out)
    else:
        copy_tokenizer(ids, out)
    held_out_words = HELD_OUT_WINDOWS * WINDOW
    words, _ = generate(binary, HELD_OUT_SEED, held_out_words)
    windows = torch.tensor([ids[w] for w in words[:held_out_words]]).view(-1, WINDOW)
    # The entropy rate needs more text than the test does to be known to four digits.
    _, nats = generate(binary, HELD_OUT_SEED, 4_000_000)
    data = training_tokens(binary, ids, work, steps * BATCH * WINDOW)

    model = new_model(family, len(ids))
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(ids)} tokens", flush=True)

    def report() -> None:
        print(f"held-out perplexity {perplexity(model, windows):.4f}, generator {math.exp(nats):.4f}", flush=True)

    train(model, data, steps, work, args.resume, report)
    spread_channels(family, model)
    model = model.to(torch.bfloat16)
    save(family, model, ids, out)
    model = family.model.from_pretrained(out).float().eval()
    print("saved in bfloat16")
    report()


if __name__ == "__main__":
    main()
