"""`python -m robotrl` is the `robotrl` command."""

from __future__ import annotations

import sys

from robotrl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
