"""100,000 images go through inspection and writing part by part in less than 1 GiB."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import io, resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from dcpipe import images, store

N = 100_000
generator = np.random.default_rng(0)
tiny = []
for _ in range(64):
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, format="JPEG")
    tiny.append(buffer.getvalue())

class Source:
    classes = ("a", "b")
    labels = np.arange(N) % 2
    def read(self, rows):
        return [(bytes(bytearray(tiny[row % 64])), f"{row}.jpg") for row in rows]

reports = []
for start in range(0, N, images.PART_ROWS):
    rows = np.arange(start, min(start + images.PART_ROWS, N))
    encoded, report = images.inspect_part(Source(), rows, Source.classes, 64, rows)
    part = Path(sys.argv[1]) / f"{start}.parquet"
    store.write_part(part, encoded, Source.classes)
    part.unlink()
    reports.append(report)
images.merge_reports(reports)
assert images.duplicates(reports[:1], reports[1:2])["pairs"] == 2048 * 2048 // 64
status = Path("/proc/self/status")
if status.exists():  # of this program alone; ru_maxrss begins with what the parent had when it started this one
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    print(1024 * int(line.split()[1]))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.pipeline
def test_a_hundred_thousand_images_in_a_gibibyte(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**30
