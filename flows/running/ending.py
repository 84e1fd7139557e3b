"""What the last stage of the pipeline tells: the accuracies, and where the release is."""

from __future__ import annotations

from pathlib import Path

from dcpipe import store
from dcpipe.reports.columns import human
from dcpipe.reports.printing import print_table
from dcpipe.reports.states import PLACES
from dcpipe.reports.tables import workspace_scores


def tell(root: Path, name: str) -> None:
    """Print the score table of the workspace, and how to load and publish its release `name`."""
    release = root / PLACES["release"]
    print_table(workspace_scores(root))
    print(
        f"The release is in {PLACES['release']}, {human(store.folder_bytes(release))}: "
        f'dcpipe.load("{PLACES["release"]}"), or commit and `dcpipe publish {name}@v1.0.0`.'
    )
