"""Runs the program in place of this process, or, on Windows, waits for it."""

import os
import subprocess
import sys

from paring import find_paring_bin

if __name__ == "__main__":
    command = [find_paring_bin(), *sys.argv[1:]]
    if sys.platform == "win32":
        sys.exit(subprocess.run(command).returncode)
    os.execv(command[0], command)
