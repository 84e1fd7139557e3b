"""condense: run the whole pipeline as one flow, from the UI, on a schedule or from a queue. It needs a Prefect server.

    python -m flows.condense                     run the pipeline once, now
    python -m flows.condense --serve             serve it as the deployment `condense/line` until stopped
    python -m flows.condense --serve --cron "0 3 * * *"

Each task runs `dvc --wait-for-lock repro -s STAGE`, in the order of the graph, and each stage appears as a separate
flow. A deployment runs the pipeline at most once at a time. Stages respect the global concurrency limit `gpu` if it is
defined (`prefect gcl create gpu --limit 1`). Without a server, use `dvc repro`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, tags, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import task_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed

from dcpipe import logs
from dcpipe.stopping import stopping_in_one_sentence
from dcpipe.types import DataError, require
from flows.running.prefect_page import PARENT
from flows.running.runtime import tags_of
from flows.running.server import configured, prepare_client


def stages() -> list[str]:
    """The names of the stages in the order in which DVC lists them, after the stage that lists the sources."""
    done = subprocess.run(["dvc", "stage", "list", "--name-only"], check=True, capture_output=True, text=True)
    return ["data/dvc.yaml:sources", *done.stdout.split()]


@task(name="repro", task_run_name="repro[{stage}]", cache_policy=NO_CACHE, persist_result=False, log_prints=True)
def repro(stage: str) -> Any:
    """Reproduce one stage, whose run is then a part of this one; if it fails, the message of the state contains the
    last lines of its output."""
    environment = {**os.environ, PARENT: str(task_run.id)}
    # If the limit is not defined, nothing waits; with `gpu: 1`, two pipelines do not share one GPU.
    with concurrency("gpu", occupy=1, lease_duration=60, strict=False):
        command = ["dvc", "--wait-for-lock", "repro", "-s", stage]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    output = done.stdout + done.stderr
    print(output)
    if done.returncode != 0:
        lines = [line for line in output.strip().splitlines() if line]
        sentence = f"stage {stage} failed (exit {done.returncode}): {' | '.join(lines[-4:])}"
        return Failed(message=sentence, data=DataError(sentence))
    return "skipped" if "didn't change, skipping" in output else "made"


@flow(name="condense", log_prints=True, validate_parameters=False)
def condense(targets: list[str] | None = None) -> Any:
    """Rebuild the stale stages one by one (of all stages, or of `targets` in the given order)."""
    outcome: list[dict[str, Any]] = []
    for stage in targets or stages():
        done = repro(stage)
        failed = isinstance(done, State)
        outcome.append({"stage": stage, "outcome": "failed" if failed else done})
        create_table_artifact(table=outcome, key="condense-stages", description="stages of this run")
        if failed:
            return done
    return None


def main() -> None:
    """Parse the command line and run or serve the flow."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.condense", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help="serve the flow as a deployment instead of running it")
    parser.add_argument("--cron", help="a schedule for the deployment, e.g. '0 3 * * *'")
    logs.add_options(parser)
    arguments = parser.parse_args()
    with stopping_in_one_sentence("condense", arguments.level):
        server = configured()
        problem = server.problem()
        require(not problem, f"{problem}; start one with `prefect server start`, or run `dvc repro` instead")
        require(Path("dvc.yaml").is_file(), f"{Path.cwd()} has no dvc.yaml; change to the workspace's folder")
        name = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["release"]["name"]
        prepare_client(server)  # for the processes of stages; in this one, Prefect is imported already
        with temporary_settings({PREFECT_API_URL: server.url}), tags(*tags_of(name)):
            if arguments.serve:
                condense.serve(name="line", limit=1, cron=arguments.cron, tags=tags_of(name))
            else:
                condense.with_options(flow_run_name=f"condense {name}")()


if __name__ == "__main__":
    main()
