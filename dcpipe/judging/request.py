"""What is judged, and how: two files in a folder, from which a run resumes.

`params.yaml` has the parameters of the images, the labels and the protocol, as in a workspace, so that the stage
`images` and the training of students are the same as there. `judge.yaml` has what a workspace does not know: which
release is judged, with which teachers, on which students, from which seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field

from dcpipe.config import budget, presets
from dcpipe.config.blocks import Block, checked, read
from dcpipe.config.params import Images, Params, parse
from dcpipe.config.protocols import PROTOCOLS
from dcpipe.config.protocols.row import PLAIN_VIEWS
from dcpipe.config.values import Distinct, Natural
from dcpipe.images import SOURCES, list_source
from dcpipe.release import Release
from dcpipe.store.files import replacing
from dcpipe.types import check_same_classes, require
from dcpipe.types.paths import is_url

_PATHS = {"path", "images", "root", "classes"}  # options of image sources that are paths if they are texts
PARAMS, REQUEST = "params.yaml", "judge.yaml"
_LISTED = "data/sources/images.json"  # as in a workspace
Row = Literal[
    "uncompressed",
    "online",
    "hard",
    "random",
    "random_hard",
    "equal_bytes",
    "equal_bytes_soft",
    "all_images",
    "all_images_at_compute",
    "plain",
]
ALL_ROWS: tuple[Row, ...] = get_args(Row)
# `plain` has to be asked for: two more rows, which only the augmentation-robust score needs.
ROWS: tuple[Row, ...] = tuple(row for row in ALL_ROWS if row != "plain")
# Rows that the stage `evaluation` does not have.
NOT_OF_STAGES = ("random_hard", "equal_bytes_soft", "all_images_at_compute", "plain")
TEACHER = "judge"  # the key that stands for the teachers in params.yaml


class Request(Block):
    """The content of judge.yaml.

    `what` is how the set was named, `release` the folder that it was fetched to, `digest` its content. `teachers` are
    folders of artifacts that labelled it, and `teacher_digests` their content; without any, there are no rows that need
    them. `students` are trained one after another. `rows` are compared with the set. `curve`: so many tests in the
    course of training, evenly spaced, which are recorded but do not count.
    """

    what: str
    release: str
    digest: str
    teachers: Annotated[list[str], Distinct] = Field(default=[])
    teacher_digests: list[str] = Field(default=[])
    students: Annotated[list[str], Distinct, Field(min_length=1)]
    seeds: Annotated[list[int], Distinct, Field(min_length=1)]
    rows: Annotated[list[Row], Distinct] = Field(default=list(ROWS))
    curve: Natural = 0


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None or empty for what the release or the protocol decides."""

    students: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    rows: Sequence[str] = ()
    protocol: str | None = None
    epochs: int | None = None
    all_sizes: bool = False
    curve: int = 0


def make(what: str, release: Release, base: Mapping[str, Any] | None, wishes: Wishes) -> tuple[Request, Params]:
    """The request for a release.

    Args:
        what: how the user named it.
        release: the set.
        base: the content of a params.yaml that describes the original images and how they can be trained on, from a
            preset or from the images themselves; None takes what the release says of them.
        wishes: what the user asked for.

    Raises `DataError` if the release does not say where its images come from and there is no `base`, and for students,
    rows and protocols that cannot be.
    """
    own = release.manifest["params"]
    complete = _is_complete(own)
    if base is None:
        require(
            complete and not (own["images"].get("options") or {}).get("path"),
            f"{what} does not say where its original images are; give --data: a preset such as digits, a folder, or "
            "Parquet files",
        )
        base = own
    content = _content(release, own if complete else None, base, wishes)
    params = parse(content, f"the parameters for judging {what}")
    unknown = [row for row in wishes.rows if row not in ALL_ROWS]
    require(not unknown, f"--rows has {', '.join(unknown)}; choose from {', '.join(ALL_ROWS)}")
    request = checked(
        Request,
        {
            "what": what,
            "release": str(release.path.absolute()),
            "digest": release.digest,
            "students": list(wishes.students) or [params.evaluation.student],
            "seeds": list(wishes.seeds),
            "rows": list(wishes.rows) or list(ROWS),
            "curve": wishes.curve,
        },
        REQUEST,
    )
    for student in request.students:
        parse({**content, "evaluation": {**content["evaluation"], "student": student}}, f"student {student}")
    return request, params


def _is_complete(params: Mapping[str, Any]) -> bool:
    """Whether a release has the parameters of a workspace; imported ones do not."""
    return all(name in params for name in Params.model_fields)


def _content(
    release: Release, own: Mapping[str, Any] | None, base: Mapping[str, Any], wishes: Wishes
) -> dict[str, Any]:
    """The parameters: images and the training on all of them from `base`, labels and protocol from the release where it
    says so. What makes a set, which exists already, is left out."""
    evaluation = dict((own or base)["evaluation"])
    if wishes.protocol is not None:
        # The protocol's own numbers, and of the others only those that it leaves open.
        kept = ("student", *PROTOCOLS[wishes.protocol].free) if wishes.protocol in PROTOCOLS else evaluation
        evaluation = {key: evaluation[key] for key in kept if key in evaluation} | {"protocol": wishes.protocol}
    if wishes.epochs is not None:
        evaluation["epochs"] = wishes.epochs
    counts = release.images.per_class
    ipc = int(counts.max())
    student = (*wishes.students, evaluation["student"])[0]
    evaluation |= {
        "student": student,
        "seeds": [0, 1, 2],
        "baselines": [row for row in ROWS if row not in NOT_OF_STAGES],
        "sizes": list(range(1, ipc)) if wishes.all_sizes else [],
    }
    training = dict(base["teacher"]["training"])
    if not training.get("epochs"):  # a preset whose teachers are pretrained
        training["epochs"] = 100
    labels = {**(own or base)["softlabels"], "teachers": [TEACHER], "method": "stored"}
    packing = dict((own or base)["compression"])
    if not uses_own_labels(release, evaluation.get("protocol")):
        labels["method"], packing = "none", {"codec": "none"}
        row = PROTOCOLS.get(wishes.protocol or "")
        if row is not None and row.views is not None:
            labels |= _views(row.views, labels)  # no stored label ties them to others
    picked = {"method": "random", "ipc": ipc, "seed": own["selection"].get("seed", 0) if own else 0}
    if counts.min() < ipc:  # some classes have fewer images
        picked["small_classes"] = "take_all"
    return {
        "images": _images(own, base),
        "teacher": {"networks": {TEACHER: {"network": student}}, "training": training},
        "features": {"teacher": TEACHER},
        "selection": picked,
        "synthesis": {"method": "none"},
        "softlabels": labels,
        "compression": packing,
        "evaluation": evaluation,
        "release": {"name": _name(release), "licence": release.manifest["licence"]},
    }


def uses_own_labels(release: Release, protocol: str | None) -> bool:
    """Whether students learn from the labels that the set is shipped with: if it has some, and the protocol does not
    give other ones to every set."""
    gives = PROTOCOLS[protocol].labels if protocol in PROTOCOLS else "own"
    return release.manifest["labels"] is not None and gives == "own"


def _views(views: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `softlabels` that say how views are drawn, as a protocol has them."""
    drawn = {**PLAIN_VIEWS, **views}
    mix = drawn.pop("mix")
    return {"augmentation": {**labels.get("augmentation", {}), **drawn}, "mix": mix}


def _images(own: Mapping[str, Any] | None, base: Mapping[str, Any]) -> dict[str, Any]:
    """The block `images`: that of `base` for sets of others. A release says itself at which size and with which split
    its images were read, so that no image of it is tested on; then `base` says only where they are."""
    given = dict(base["images"])
    if own is None or own["images"]["source"] != given["source"]:
        return given
    places = {key: value for key, value in given.get("options", {}).items() if key in _PATHS}
    policy = {key: given[key] for key in ("on_corrupt",) if key in given}
    return {**own["images"], **policy, "options": {**own["images"].get("options", {}), **places}}


def _name(release: Release) -> str:
    """The name of the release as params.yaml allows names."""
    plain = "".join(
        sign if sign.isascii() and (sign.isalnum() or sign == "-") else "-" for sign in release.name.lower()
    )
    return plain.strip("-") or "judged"


def check_whitened(release: Release, params: Params, teachers: bool) -> None:
    """Raises `DataError` for what students of a ZCA-whitened release cannot have: teachers, who see other images, and
    RandAugment, which needs plain pixels."""
    if release.transform is None:
        return
    require(
        not teachers,
        f"release {release.name} is ZCA-whitened, and teachers do not see such images; leave --teacher out",
    )
    require(
        params.softlabels.augmentation.randaugment == 0,
        f"release {release.name} is ZCA-whitened, but views of protocol {params.evaluation.protocol} have RandAugment, "
        "which needs plain pixels; choose another --protocol",
    )


def check_free(folder: Path, request: Request) -> None:
    """Raises `DataError` if the folder has a request for another set, or is a workspace."""
    if not (folder / REQUEST).exists():
        taken = (folder / PARAMS).exists()
        require(not taken, f"{folder} has a {PARAMS} of something else; give another folder with --out")
        return
    earlier = read_request(folder)
    require(
        earlier.digest == request.digest,
        f"{folder} has a judgement of {earlier.what} already; give another folder with --out",
    )


def write(folder: Path, request: Request, params: Params) -> bool:
    """Write both files. Returns whether they were there already with the same content. Raises `DataError` if the folder
    has a request for another set."""
    check_free(folder, request)
    folder.mkdir(parents=True, exist_ok=True)
    same = True
    for name, block in ((REQUEST, request), (PARAMS, params)):
        text = yaml.safe_dump(block.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        text = f"# Written by `dcpipe judge`.\n{text}"
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            same = False
            (folder / name).write_text(text, encoding="utf-8")
    return same


def check_classes(images: Images, release: Release) -> None:
    """Raises `DataError` if the source of the original images has other classes than the set, or them in another order.
    Paths in its options hold in the current folder. No image is decoded; a source that reads all of its images to find
    their classes is left to the stage `images`."""
    where, source = "the original images (--data) and the set", SOURCES[images.source]
    n = budget.counted_classes(images)
    require(
        n is None or n == len(release.classes),
        f"{where}: {n} classes on one side and {len(release.classes)} on the other; give the images that the set was "
        "made from",
    )
    reads_all = getattr(source, "reads_everything", None)
    if reads_all is None or not reads_all(**images.options):
        check_same_classes(source(**images.options)["train"].classes, release.classes, where)


def listing(images: Images) -> dict[str, Any]:
    """The files of the original images as they are now; empty for a source without files. Paths hold in the current
    folder. Raises `DataError` for files that are not there."""
    found = list_source(SOURCES[images.source], images.options)
    return {} if found is None else found.to_json()


def has_images(folder: Path, params: Params, found: Mapping[str, Any] | None) -> bool:
    """Whether the stage `images` has run in a folder with these parameters, on the files `found`; None for whichever
    there were."""
    if budget.recorded(params.images, folder / "data" / "images") is None:
        return False
    try:
        before = json.loads((folder / _LISTED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # of an earlier version, or of a run that was stopped
        return False
    return found is None or bool(before == found)


def note_listing(folder: Path, found: Mapping[str, Any]) -> None:
    """Record which files the images in a folder were read from."""
    path = folder / _LISTED
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_request(folder: Path) -> Request:
    """The request in a folder."""
    return checked(Request, read(folder / REQUEST, "a request of `dcpipe judge`"), str(folder / REQUEST))


def described(data: str, folder: Path) -> dict[str, Any]:
    """The content of a params.yaml for the images that `--data` names: a preset, a params.yaml, or images that are
    recognised. Paths are written so that they hold in `folder`."""
    path = Path(data)
    if data in presets.names():
        return dict(presets.preset(data).params)
    if path.name.endswith(".yaml") and path.is_file():
        content = dict(read(path, "the parameters of a workspace"))
        options = content.get("images", {}).get("options", {})
        for key in _PATHS & options.keys():
            if isinstance(options[key], str) and not is_url(options[key]):
                where = (path.absolute().parent / options[key]).resolve()
                options[key] = os.path.relpath(where, folder.absolute())
        return content
    from dcpipe.workspace import own_images  # recognising images takes many imports

    seen: dict[str, Any] = yaml.safe_load(own_images.text(data, folder))
    seen["images"]["on_corrupt"] = "skip"  # a judgement says how many images it used, and cannot wait for an edit
    return seen
