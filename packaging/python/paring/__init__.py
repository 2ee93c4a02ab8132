"""The paring program as a Python package: `paring`, `python -m paring`, or `find_paring_bin()` for other programs."""

import os
import pathlib
import sys
import sysconfig


def find_paring_bin() -> str:
    """Returns the path of the program that was installed with this package; FileNotFoundError where there is none."""
    beside = pathlib.Path(__file__).resolve().parent.parent
    folders = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", vars={"base": sys.base_prefix}),
        sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")),
        # pip install --target
        str(beside / "bin"),
    ]
    name = "paring" + (sysconfig.get_config_var("EXE") or "")
    for folder in folders:
        if os.path.isfile(path := os.path.join(folder, name)):
            return path
    raise FileNotFoundError(f"no program {name} in {', '.join(folders)}: install the package paring again")
