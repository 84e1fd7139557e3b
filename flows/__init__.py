"""Flows: one per stage (load, run tasks, save), and `condense.py` for the whole pipeline. They contain no maths."""
