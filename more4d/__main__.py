"""`python -m more4d` is the `more4d` command."""

import sys

from more4d.cli.main import main

sys.exit(main())
