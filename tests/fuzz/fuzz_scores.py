"""The target `scores` of targets.py under atheris (see guided.py): python tests/fuzz/fuzz_scores.py FOLDER."""

from guided import guide

if __name__ == "__main__":
    guide("scores")
