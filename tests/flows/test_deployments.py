"""Every stage is a flow that somebody who knows Prefect can import, and `prefect.yaml` deploys each of them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from flows import deployments
from flows.running import runtime

ROOT = Path(__file__).resolve().parents[2]
STAGES = set(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def test_there_is_a_flow_for_every_stage_and_for_studies() -> None:
    assert set(deployments.FLOWS) == STAGES | {"studies", "judging"}
    for name, flow in deployments.FLOWS.items():
        assert isinstance(flow, Flow) and getattr(deployments, name) is flow
        parameters = list(inspect.signature(flow.fn).parameters)
        keyed = ["key"] if name in {"teacher", "studies"} else []
        assert parameters == [*keyed, "params", "device", "workers"], "what the page of a run shows"
        assert flow.description, f"{name} needs a docstring"


@pytest.mark.parametrize("stage", sorted(deployments.FLOWS))
def test_a_flow_calls_the_body_that_its_process_has_prepared(stage: str) -> None:
    done: list[str] = []
    runtime._bodies.append(lambda: done.append(stage))
    key = {"key": "main"} if stage in {"teacher", "studies"} else {}
    deployments.FLOWS[stage].fn(**key)
    assert done == [stage] and runtime._bodies == []


def test_prefect_yaml_deploys_every_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    found = [load_flow_from_entrypoint(deployment["entrypoint"]) for deployment in content["deployments"]]
    assert sorted(flow.name for flow in found) == sorted([*deployments.FLOWS, "condense"])
    assert {deployment["work_pool"]["name"] for deployment in content["deployments"]} == {"dcpipe"}
    assert {deployment["concurrency_limit"] for deployment in content["deployments"]} == {1}
