"""`python -m dcpipe.cli`: the command `dcpipe`, if the script is not on the path."""

from __future__ import annotations

import sys

from dcpipe.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
