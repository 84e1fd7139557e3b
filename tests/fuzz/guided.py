"""A target under atheris, which looks for bytes that reach new lines of the code: what the scripts `fuzz_KIND.py` run.

atheris is not a dependency: `pip install atheris` first. Options are libFuzzer's, such as `-max_total_time=600`; a
folder as argument collects the bytes that reached something new. Without atheris, use run.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def guide(kind: str) -> None:
    """Fuzz one target until an error is found that is no `DataError`, or until told to stop."""
    import atheris  # type: ignore[import-not-found]

    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests / "store"), str(tests)]
    with atheris.instrument_imports(include=["dcpipe"]):
        import targets
    with tempfile.TemporaryDirectory() as folder:
        trial = targets.Trial(targets.TARGETS[kind], Path(folder))

        def once(data: bytes) -> None:
            trial.meets(data)

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            """Damage that knows the format, of the original now and then, or else libFuzzer's own."""
            if seed % 2:
                return bytes(atheris.Mutate(data, most))
            return trial.mutated(seed)[:most]

        atheris.Setup(sys.argv, once, custom_mutator=lambda data, most, seed: mutated(data, most, seed))
        atheris.Fuzz()
