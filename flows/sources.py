"""sources: list what the pipeline reads from outside the workspace, so that `dvc repro` notices when it changes.

It runs before every `dvc repro`, in about a second, and opens no image. Output: data/sources (see
`dcpipe.images.outside`).

A folder of an earlier teacher that params.yaml does not name any more is moved from data/teacher to
.dcpipe/former/teacher, because stages depend on data/teacher as a whole, and other workspaces would not have this
folder. It also says, once for all stages, whether Prefect shows them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dcpipe import logs
from dcpipe.config.params import load_blocks
from dcpipe.images import SOURCES, outside
from dcpipe.stopping import stopping_in_one_sentence
from dcpipe.workspace import digests
from flows.running import server


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of the stage `sources`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.sources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    logs.add_options(parser)
    level, log = parser.parse_args(arguments).level, logs.logger("flows.sources")
    with logs.kept("sources"), stopping_in_one_sentence("sources", level):
        params = load_blocks(Path("params.yaml"))
        networks, block = params.teacher.networks, params.images
        hashes = {key: "" if n.weights is None else n.weights_sha256() for key, n in networks.items()}
        if prefect := server.choose()[1]:
            log.info("%s", prefect)
        if remark := digests.remark(Path()):
            log.warning("%s", remark)
        outside.write(outside.list_sources(SOURCES[block.source], block.options, hashes, log.warning))
        for note in outside.move_former_teachers(set(networks)):
            log.info("%s", note)


if __name__ == "__main__":
    main()
