"""Damage artifacts at random and count what the loaders raise. Only `DataError` is right.

    python tests/fuzz/run.py --minutes 10            all kinds in turn
    python tests/fuzz/run.py --minutes 10 pack       one kind: manifest, pack, images, tables, ... (see targets.py)
    python tests/fuzz/run.py --seed 1234 --minutes 1 other damage

It needs nothing beyond the project's environment. The exit code is 1 if there was any other error; the damaged file is
then kept, and its seed is printed. `fuzz_KIND.py` do the same under atheris, which looks for new paths in the code.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def fuzz(kind: str, seconds: float, seed: int, keep: Path) -> collections.Counter[str]:
    """Damage one kind for so long; the number of files accepted, refused, and of each other error."""
    from targets import TARGETS, Trial

    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(TARGETS[kind], Path(folder))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = trial.mutated(seed)
            try:
                counts["refused" if trial.meets(data) is None else "accepted"] += 1
            except Exception as error:
                fault = f"{type(error).__name__} in {traceback.extract_tb(error.__traceback__)[-1].name}"
                counts[fault] += 1
                if counts[fault] == 1:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{kind}-{seed}").write_bytes(data)
                    print(f"{kind}: seed {seed}, kept as {keep / f'{kind}-{seed}'}")
                    traceback.print_exc()
            seed += 1
    return counts


def main() -> int:
    """Read the arguments, fuzz, print a line for each kind."""
    sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "store"), str(TESTS)]
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=[*TARGETS], help="default: all, in turn")
    parser.add_argument("--minutes", type=float, default=10, help="in all (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the first damage; each next one counts up")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="folder for what made an error")
    options = parser.parse_args()
    names = [options.kind] if options.kind else [*TARGETS]
    faults = 0
    for kind in names:
        counts = fuzz(kind, 60 * options.minutes / len(names), options.seed, options.keep)
        print(f"{kind}: {', '.join(f'{count} {name}' for name, count in counts.most_common())}")
        faults += sum(counts.values()) - counts["refused"] - counts["accepted"]
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
