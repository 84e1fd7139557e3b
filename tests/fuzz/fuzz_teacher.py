"""The target `teacher` of targets.py under atheris (see guided.py): python tests/fuzz/fuzz_teacher.py FOLDER."""

from guided import guide

if __name__ == "__main__":
    guide("teacher")
