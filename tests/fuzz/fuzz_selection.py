"""The target `selection` of targets.py under atheris (see guided.py): python tests/fuzz/fuzz_selection.py FOLDER."""

from guided import guide

if __name__ == "__main__":
    guide("selection")
