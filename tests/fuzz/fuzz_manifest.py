"""The target `manifest` of targets.py under atheris (see guided.py): python tests/fuzz/fuzz_manifest.py FOLDER."""

from guided import guide

if __name__ == "__main__":
    guide("manifest")
