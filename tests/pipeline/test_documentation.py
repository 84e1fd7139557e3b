"""The commands of README and docs that take seconds are typed in a built workspace, from top to bottom of each page.

The others are listed with the reason; `tests/docs/test_commands.py` checks that they exist with their options.
"""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import own_sets
import pytest
from command_lines import without_redirection
from pages import BLOCKS, commands_in, name_of, program_of
from workspaces import Workspace

from dcpipe.cli import commands as cli

NOT_RUN = {
    r"pip install |\./dev ": "makes or changes an environment",
    r"cd |export ": "the test is where the command would lead",
    r"(DCPIPE_WORKERS|CUDA_VISIBLE_DEVICES)=|dask |srun |torchrun |dvc commit -f teacher": "several GPUs or machines",
    r"aws |gcloud |hf |git push|dvc remote add": "needs an account or a server",
    r"dcpipe (pull|inspect) (s3|https)://": "needs a server; tests/release has one",
    r"dcpipe import-labels": "needs labels of another program; tests/interop makes some",
    r"dcpipe plan( --devices 1,8)?$": "measures the machine for half a minute; test_plan.py does so",
    r"dcpipe import-images": "needs sets of other programs; tests/interop makes some",
    r"dcpipe (judge|compare)": "minutes; test_judging.py judges a set",
    r"dcpipe publish \S+ --remote s3": "needs a server",
    r"tensorboard ": "runs until it is stopped",
    r"dcpipe study": "minutes; test_studies_run.py runs studies",
    r"dvc exp run": "runs stages; the value is checked by tests/docs",
}
# The workspace of the test has another name than those of the pages, and what they say once is done once.
STANDS_FOR = {
    "digits-score@": "tiny-digits@",
    "pets@": "tiny-digits@",
    "--repo my-set": "--repo .",
    "Pets, 10 images per class": "Build",
}


VARIABLE = re.compile(r"[A-Z_]+=")


def reason(command: str) -> str | None:
    """Why a command is not run; None if it is."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


# The quick start first, because other pages say parts of it again.
SHELL = sorted(
    (block for block in BLOCKS if block.language in ("sh", "console")),
    key=lambda block: name_of(block.page) != "docs/quick_start.md",
)
COMMANDS = list(dict.fromkeys(command for block in SHELL for command in commands_in(block)))


def test_every_reason_is_of_a_command() -> None:
    unused = [pattern for pattern in NOT_RUN if not any(re.match(pattern, command) for command in COMMANDS)]
    assert unused == []


@pytest.mark.pipeline
def test_commands_run(copy_of_line: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in copy_of_line.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(copy_of_line.root)
    pets = tmp_path / "images of pets"
    own_sets.folders("", classes=("cat", "dog"), n=20)(pets)
    done: set[str] = set()
    replacing = [command for command in COMMANDS if "--force" in command]  # they change params.yaml: last
    for written in [*(command for command in COMMANDS if command not in replacing), *replacing]:
        command = written
        for word, stand_in in {**STANDS_FOR, "/data/pets": shlex.quote(str(pets))}.items():
            command = command.replace(word, stand_in)
        if command in done or reason(written) is not None:
            continue
        done.add(command)
        words = without_redirection(shlex.split(command))
        if program_of(command) == "dcpipe":
            assert cli.main(words[1:]) == 0, written
        else:
            variables = dict(word.split("=", 1) for word in takewhile(VARIABLE.match, words))
            copy_of_line.run(*words[len(variables) :], **variables)
    assert {"dcpipe publish tiny-digits@v1.0.0", "dvc repro", "dcpipe status"} <= done and len(done) > 15
    assert (copy_of_line.root / "digits" / "artifact.json").is_file(), "pulled"
    assert (copy_of_line.root / "my-set/params.yaml").is_file(), "made by `dcpipe init digits my-set`"
    assert "imagefolder" in (copy_of_line.root / "pets/params.yaml").read_text(), "made by `dcpipe init my-images`"
