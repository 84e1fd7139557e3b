"""What pages describe although it is not built yet. The tests of the documentation let it pass, and fail when it is
built, so that this file becomes empty in the end."""

from __future__ import annotations

# Commands, by how they begin.
COMMANDS = (
    "dcpipe init my-images",
    "dcpipe completion",
    "dcpipe status --json",
)
# Keys of params.yaml, with their default and values.
KEYS = {"images.on_corrupt": ("stop", "`stop`, `skip`")}
# Environment variables.
VARIABLES = ("DCPIPE_LOG", "DCPIPE_METRICS")
# Extras of the package.
EXTRAS = ("dvc", "hub")
# Methods of a class, as "Class.method".
METHODS = ("Release.push_to_hub", "CondensedDataset.to_hf")
