"""`python bench/run.py`: the same as `python -m bench` in the repository's root."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder leads the path; `bench` is imported from the folder above.
    sys.path[0] = str(Path(__file__).parent.parent)
    runpy.run_module("bench", run_name="__main__", alter_sys=True)
