"""Shards: the independent pieces of a stage's work, as functions that any process can run.

A shard is a call `work(item)` of a function of a module, with picklable arguments: folders, digests and options instead
of open files, tensors or networks. What it needs is opened once per process (`opened`). It writes its result into the
staging folder by rename, or returns a few numbers. So a shard that runs twice does no harm, and a killed worker costs
no more than the shard that it was running.

Where shards run is decided by the environment, never by params.yaml: it does not change a result.

* `functions.py`  what makes a function a shard, and what it opens once
* `attempts.py`   calls a shard again after an error of a disk or a network
* `progress.py`   reports of progress from inside a shard
* `workers.py`    `DCPIPE_WORKERS`: which workers there are
* `cluster.py`    runs shards on Dask workers, in processes of this machine or of others
* `remote.py`     the part that runs inside a worker
"""

from __future__ import annotations

from dcpipe.shards.attempts import attempt
from dcpipe.shards.functions import Group, in_groups, in_turn, is_shard, opened

__all__ = ["Group", "attempt", "in_groups", "in_turn", "is_shard", "opened"]
