"""`python -m more4d` is the `more4d` command."""

import sys
from pathlib import Path

# `-m` put the current folder first on the path, where an argparse.py may lie among the user's photos.
if not getattr(sys.flags, "safe_path", False):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from more4d.cli.main import start

if __name__ == "__main__":
    start()
