"""sources: list what the pipeline reads from outside the workspace, so that `dvc repro` notices when it changes.

It runs before every `dvc repro`, in about a second, and opens no image. Output: data/sources (see
`dcpipe.images.outside`).

A folder of an earlier teacher that params.yaml does not name any more is moved from data/teacher to
.dcpipe/former/teacher, because stages depend on data/teacher as a whole, and other workspaces would not have this
folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dcpipe.config.params import load_blocks
from dcpipe.images import SOURCES, outside
from dcpipe.stopping import stopping_in_one_sentence
from dcpipe.workspace import digests


def main() -> None:
    """The command of the stage `sources`."""
    with stopping_in_one_sentence("sources"):
        params = load_blocks(Path("params.yaml"))
        networks, block = params.teacher.networks, params.images
        hashes = {key: "" if n.weights is None else n.weights_sha256() for key, n in networks.items()}

        def say(note: str) -> None:
            print(f"sources: {note}", file=sys.stderr)

        if remark := digests.remark(Path()):
            say(remark)
        outside.write(outside.list_sources(SOURCES[block.source], block.options, hashes, say))
        for note in outside.move_former_teachers(set(networks)):
            print(f"sources: {note}")


if __name__ == "__main__":
    main()
