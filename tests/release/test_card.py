"""The card: sizes, scores and how it was made, read back from its Markdown."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import releases
import yaml
from releases import FILES

from dcpipe.release import card


def test_card(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license_name"] == "CC0-1.0"
    [config] = matter["configs"]
    assert pq.read_table(made / config["data_files"][0]["path"]).num_rows == 12
    for name in FILES[:4]:
        assert f"| `{name}` | {(made / name).stat().st_size:,} |" in body
    # 2 bytes x 12 images x 5 views x 3 classes = 360 bytes of fp16
    assert "| score, none | score | convnet-d1-w4 | 4 | 61.0 ± 1.0 | 3 | 4,321 | 999 | 0 | 360 |" in body
    assert 'dcpipe.load("fish@vX.Y.Z"' in body
    assert "Licence of the source images: CC0-1.0" in body
    assert body.rstrip().endswith("Made with dcpipe 0.1.0.")
    params = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert params == releases.settings("fish").model_dump(mode="json")


def test_the_card_says_that_images_are_grids(made: Path, tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.parts(grid=2))
    text = (tmp_path / "fish" / "README.md").read_text(encoding="utf-8")
    assert (
        "Each stored image is a grid of 2 x 2 cells, and each cell, enlarged bilinearly to full size, is a training "
        "image: 12 stored images decode to 48. Each decoded image carries soft labels of 5 augm"
    ) in text
    assert "as stored; `dcpipe export` writes them decoded." in text
    # 2 bytes x 48 images x 5 views x 3 classes, in the text and in the row of 4 images per class
    assert "(1,440 in fp16)" in text and "| 4,321 | 999 | 0 | 1,440 |" in text
    plain = (made / "README.md").read_text(encoding="utf-8")
    assert "grid" not in plain.split("## Scores")[0] and "as stored" not in plain


def test_the_card_says_that_small_classes_gave_what_they_had(tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.uneven())
    text = (tmp_path / "fish" / "README.md").read_text(encoding="utf-8")
    assert "made with dcpipe: up to 4 images (1 where there are no more) of each of 3 classes" in text
    # 2 bytes x 7 images x 5 views x 3 classes
    assert "(210 in fp16)" in text and "| 4,321 | 999 | 0 | 210 |" in text


def test_values_cannot_end_the_block_of_parameters_nor_contain_markup() -> None:
    params = {"images": {"options": {"path": "a\n```\n# not a heading ````"}}}
    text = card._sources({"licence": "<script>x</script>\n\n# mine", "params": params}, {})
    assert "Licence of the source images: &lt;script&gt;x&lt;/script&gt; # mine. The licence" in text
    fence = "`" * 5
    assert yaml.safe_load(text.split(f"{fence}yaml\n")[1].split(fence)[0]) == params
