"""The command `dcpipe`: `commands.py`, and the texts of its help in `help_texts.py`."""
