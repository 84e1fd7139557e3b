"""Wiring: one flow a stage (load, tasks, save) and `condense.py`, the whole line. No maths lives here."""
