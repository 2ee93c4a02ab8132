"""One setting of scripts/bench/published with a published code; made to be run by it.

    published_side.py sparsegpt|gptq|spqr CODE MODEL TOKENS OUT
    published_side.py tokens TEXT MODEL TOKENS ROWS SEQLEN

CODE is the checkout whose modules are imported, unchanged, MODEL the folder of a Llama, TOKENS a safetensors file of
`input_ids`, OUT where the dense model goes. The loop over the blocks is the one of those projects: catch what enters
the first block, then for each block run all windows, one at a time, with a hook on every linear that feeds its Gram
matrix, compress the linears, and run the windows again with the new weights. All in float32, with all cores.

The last line printed is an object with the seconds of `work`, from loading the model to having saved it.

With `tokens` it writes the first ROWS windows of SEQLEN tokens of a text, tokenized as a whole.
"""
import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch


class Caught(Exception):
    """Ends a forward pass once the input of the first block is known."""


def sparsegpt(linears):
    """SparseGPT 2:4: a handler for each linear, how to feed one inputs and outputs, and how to run it."""
    from sparsegpt import SparseGPT

    def run(handler):
        handler.fasterprune(0.0, prunen=2, prunem=4, percdamp=0.01, blocksize=128)
        handler.free()

    return {name: SparseGPT(linear) for name, linear in linears.items()}, SparseGPT.add_batch, run


def gptq(linears):
    """The same for GPTQ with 3 bits in symmetric groups of 64."""
    from gptq import GPTQ
    from quant import Quantizer

    handlers = {name: GPTQ(linear) for name, linear in linears.items()}
    for handler in handlers.values():
        handler.quantizer = Quantizer()
        handler.quantizer.configure(3, perchannel=True, sym=True, mse=False)

    def run(handler):
        handler.fasterquant(percdamp=0.01, groupsize=64, blocksize=128)
        handler.free()

    return handlers, GPTQ.add_batch, run


def spqr(linears):
    """The same for SpQR with 3 bits in groups of 16, and scales and zeros of 3 bits."""
    from spqr_engine import SPQRUtil

    def feed(handler, inputs, _):
        handler.add_batch(inputs)

    def run(handler):
        made = handler.quantize(
            percdamp=0.01, bits=3, groupsize=16, sym=False, perchannel=True, qq_groupsize=16, round_zero=False,
            qq_scale_bits=3, qq_zero_bits=3, qq_zero_sym=False, outlier_relative_threshold=0.2,
            permutation_order="act_order", simplified_outliers=False, verbose=False)
        handler.layer.weight.data = made.weight.to(handler.layer.weight.dtype)

    return {name: SPQRUtil(linear) for name, linear in linears.items()}, feed, run


def first_inputs(model, ids):
    """What enters the first block for each window, and the other arguments that the blocks get."""
    caught = []

    def catch(_, positional, named):
        caught.append((positional[0], named))
        raise Caught

    handle = model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    for window in ids:
        try:
            model(window.unsqueeze(0), use_cache=False)
        except Caught:
            pass
    handle.remove()
    return [inputs for inputs, _ in caught], caught[0][1]


def forward(block, inputs, arguments):
    out = block(inputs, **arguments)
    return out[0] if isinstance(out, tuple) else out


@torch.no_grad()
def compress(model, ids, method):
    """Goes through the blocks."""
    windows, arguments = first_inputs(model, ids)
    for block in model.model.layers:
        linears = {name: module for name, module in block.named_modules() if isinstance(module, torch.nn.Linear)}
        handlers, feed, run = method(linears)
        hooks = [
            linear.register_forward_hook(
                lambda _, inputs, out, handler=handlers[name]: feed(handler, inputs[0].data, out.data))
            for name, linear in linears.items()
        ]
        for window in windows:
            forward(block, window, arguments)
        for hook in hooks:
            hook.remove()
        for handler in handlers.values():
            run(handler)
        windows = [forward(block, window, arguments) for window in windows]


def work(method, model, tokens, out):
    import transformers
    from safetensors.torch import load_file

    transformers.utils.logging.disable_progress_bar()
    # What the published files ask of a GPU build, and where they look for a class that has moved.
    if not torch.cuda.is_available():
        torch.cuda.synchronize = lambda *_: None
    if not hasattr(transformers, "Conv1D"):
        transformers.Conv1D = transformers.pytorch_utils.Conv1D
    start = time.perf_counter()
    ids = load_file(tokens)["input_ids"].long()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    compress(loaded.eval(), ids, method)
    loaded.save_pretrained(out)
    return time.perf_counter() - start


def write_tokens(text, model, tokens, rows, seqlen):
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    with open(text, encoding="utf-8") as file:
        ids = Tokenizer.from_file(os.path.join(model, "tokenizer.json")).encode(file.read()).ids
    if len(ids) < rows * seqlen:
        sys.exit(f"{text} has {len(ids)} tokens; {rows} x {seqlen} are needed")
    save_file({"input_ids": torch.tensor(ids[:rows * seqlen], dtype=torch.int32).reshape(rows, seqlen)}, tokens)


if __name__ == "__main__":
    methods = {"sparsegpt": sparsegpt, "gptq": gptq, "spqr": spqr}
    if len(sys.argv) == 7 and sys.argv[1] == "tokens":
        write_tokens(*sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6]))
    elif len(sys.argv) == 6 and sys.argv[1] in methods:
        torch.set_num_threads(os.cpu_count())
        sys.dont_write_bytecode = True
        sys.path.insert(0, sys.argv[2])
        seconds = work(methods[sys.argv[1]], *sys.argv[3:])
        print(json.dumps({"work": seconds}))
    else:
        sys.exit(__doc__)
