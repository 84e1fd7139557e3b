"""The target `indexes` of targets.py under atheris (see guided.py): python tests/fuzz/fuzz_indexes.py FOLDER."""

from guided import guide

if __name__ == "__main__":
    guide("indexes")
