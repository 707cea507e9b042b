"""Runs a command of more4d: python scripts/start.py infer photo.jpg --prompt "the dog runs"

`python -m more4d` imports from the folder that it is called from before anything else, so an argparse.py that
happens to lie among the user's photos would be run. Here only this clone and the installed packages count.
"""

import os  # is there since Python started
import sys

# Set before any other import: it is the folder of this script, whose modules are no libraries.
sys.path[0] = __file__.rpartition("/")[0] + "/.."
# An empty entry of PYTHONPATH, as ":/foo" has one, is the folder that this is called from.
sys.path[1:] = [
    path for path in sys.path[1:] if path and os.path.realpath(path) != os.path.realpath(os.curdir)
]

from more4d.cli.main import start  # noqa: E402

if __name__ == "__main__":
    start()
