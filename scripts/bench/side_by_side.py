"""What the benches share: a measured process, and Markdown tables.

Needs Linux and Python's standard library only, and must stay so: until a child replaces itself by its program the
system counts the memory of the script that starts it, so that a script with torch loaded would measure itself.
"""
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# Seconds from start to end, peak resident memory in MiB, cores that others used meanwhile, what was printed, and seconds
# of all processors together.
Run = collections.namedtuple("Run", "seconds mib others output processor")
# Cores that others may use during a run before it is said that they did: PyTorch's threads wait for each other by
# spinning, and a compiler that runs meanwhile can make them ten times slower.
QUIET = 0.1


def busy():
    """Seconds that all cores together have worked since the system started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(command):
    """Runs a command; ends the script with the last lines it wrote if it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        worked, start = busy(), time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        others = max(0.0, (busy() - worked - usage.ru_utime - usage.ru_stime) / seconds)
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if child.returncode:
        tail = "\n".join((texts[0] + texts[1]).splitlines()[-20:])
        sys.exit(f"this ended with status {child.returncode}:\n{' '.join(command)}\n{tail}")
    if seconds > 1 and others > QUIET:
        print(f"note: others used {others:.1f} cores during {os.path.basename(command[0])}: its time says little",
              file=sys.stderr)
    return Run(seconds, usage.ru_maxrss / 1024, others, texts[0], usage.ru_utime + usage.ru_stime)


def last_object(run):
    """The JSON object on the last line of what a run printed."""
    return json.loads(run.output.splitlines()[-1])


def perplexity(paring, model, data, *options):
    """What `paring eval` says of a model."""
    return last_object(measure([paring, "eval", model, data, *options, "--json", "--quiet"]))["perplexity"]


def median(runs, field):
    """Median of a field of runs."""
    return statistics.median(getattr(run, field) for run in runs)


def line(cells):
    """Prints a line of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def table(head, rows):
    """Prints a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        line(row)


def rounds(text):
    """The number of rounds of an argument."""
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"ROUNDS is {text}, and must be a number from 1 up")
    return int(text)
