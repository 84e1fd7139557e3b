"""`dc`: the results of DC, DSA and DM, `res_{method}_{data set}_{network}_{ipc}ipc.pt`.

A dict, of which `data` is a list with one entry per experiment: [images f32 [n, channels, s, s], labels i64 [n]], class
by class, normalised and not clamped. `accs_all_exps` has the accuracies of the run as NumPy's numbers; they are not
read, because a release has scores that dcpipe measured.
"""

from __future__ import annotations

from dcpipe.interop.sets.base import Format, Found, Options, Source, images_of, labels_of
from dcpipe.types import require


def owns(source: Source) -> bool:
    """A dict with a list `data`."""
    return isinstance(source.content, dict) and isinstance(source.content.get("data"), list)


def read(source: Source, options: Options) -> Found:
    """The images of one experiment, by default the first."""
    path, sets = source.path, source.content["data"]
    number = options.experiment or 0
    require(
        0 <= number < len(sets),
        f"{path} has {len(sets)} experiments, so experiment {number} is none of them; "
        + (f"give --experiment 0 to {len(sets) - 1}" if sets else "give a file with a result"),
    )
    chosen, where = sets[number], f"{path}: experiment {number}"
    require(
        isinstance(chosen, list | tuple) and len(chosen) == 2,
        f"{where} is {type(chosen).__name__}, expected a list of images and labels; give a file of DC, DSA or DM",
    )
    images = images_of(chosen[0], f"{where}, images")
    notes = (f"experiment {number} of {len(sets)}; choose another by --experiment",) if len(sets) > 1 else ()
    return Found(images, labels_of(chosen[1], f"{where}, labels", len(images)), (path,), notes=notes)


FORMAT = Format("res_….pt: DC, DSA, DM", lambda source: source.named("res_*.pt"), owns, read)
