"""Let DVC link the files of a workspace to its cache (`dcpipe.workspace.links`):

python -m dcpipe.cli.links    find out what the disk can do, and write it to .dvc/config.local
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dcpipe import logs
from dcpipe.types import DataError, describe_os_error
from dcpipe.workspace import links


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up the current folder, print what was done, and return 0, or 2 after a message to standard error."""
    with logs.shown("dcpipe"):
        try:
            for line in links.set_up(Path.cwd()):
                print(line)
        except (DataError, OSError) as error:
            told = describe_os_error(error) if isinstance(error, OSError) else error
            logging.getLogger(__name__).error("%s", told)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
