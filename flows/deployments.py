"""Every stage as a Prefect flow, to import, call, serve or deploy like any other; `prefect.yaml` lists deployments.

    from flows.deployments import features
    features()                                   # run one stage in this workspace, as `dvc repro -s features` would
    features.serve(name="features")              # serve it until stopped

    python -m flows.deployments features         # the same as the last line

`params`, `device` and `workers` are shown on the page of a run. They say what it did, and are not for changing it: the
parameters of a workspace are those of params.yaml, so that a digest belongs to them. A stage that is run in this way is
recorded in dvc.lock. `flows/condense.py` runs the whole pipeline.

`dvc repro` runs the stages through these flows too, where there is a Prefect server; without one the same functions run
without Prefect.
"""

from __future__ import annotations

import argparse
from typing import Any

from prefect import Flow, flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from dcpipe.stopping import stopping_in_one_sentence
from dcpipe.types import require
from flows.running import runtime
from flows.running.server import configured, prepare_client

Block = dict[str, Any]


@flow(validate_parameters=False)
def images(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Convert the source to tables of train, minival and test; one task per part of 2,048 images."""
    return runtime.body_of_flow("images")


@flow(validate_parameters=False)
def judging(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Train students on a release and on what it must be compared with; one task per row and seed."""
    return runtime.body_of_flow("judging")


@flow(validate_parameters=False)
def teacher(key: str, params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Train the network `key` of `teacher.networks`, or load its weights, and measure its accuracy."""
    return runtime.body_of_flow("teacher", key)


@flow(validate_parameters=False)
def features(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Compute vector, logits and coding rate of every train image; one task per part of the table."""
    return runtime.body_of_flow("features")


@flow(validate_parameters=False)
def selection(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Pick images from the train split."""
    return runtime.body_of_flow("selection")


@flow(validate_parameters=False)
def synthesis(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Refine the picked images."""
    return runtime.body_of_flow("synthesis")


@flow(validate_parameters=False)
def softlabels(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Label views of every condensed image; one task per shard of the label store."""
    return runtime.body_of_flow("softlabels")


@flow(validate_parameters=False)
def compression(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Pack the soft labels within the byte budget; one task per block of images."""
    return runtime.body_of_flow("compression")


@flow(validate_parameters=False)
def evaluation(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Train students on the set and on its baselines; one task per student."""
    return runtime.body_of_flow("evaluation")


@flow(validate_parameters=False)
def release(params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Put images, labels, scores and card into one folder."""
    return runtime.body_of_flow("release")


@flow(validate_parameters=False)
def studies(key: str, params: Block | None = None, device: str = "", workers: str = "") -> Any:
    """Run the study `key` of studies/params.yaml; one task per selection, synthesis, pack and student."""
    return runtime.body_of_flow("studies", key)


FLOWS: dict[str, Flow[..., Any]] = {
    found.name: found
    for found in (
        images,
        teacher,
        features,
        selection,
        synthesis,
        judging,
        softlabels,
        compression,
        evaluation,
        release,
        studies,
    )
}


def main() -> None:
    """Serve one stage as a deployment until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.deployments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=list(FLOWS), help="the stage to serve")
    stage = parser.parse_args().stage
    with stopping_in_one_sentence("deployments"):
        server = configured()
        problem = server.problem()
        require(not problem, f"{problem}; start one with `prefect server start`, or run `dvc repro -s {stage}` instead")
    prepare_client(server)
    with temporary_settings({PREFECT_API_URL: server.url}):
        FLOWS[stage].serve(name=stage, limit=1)


if __name__ == "__main__":
    main()
