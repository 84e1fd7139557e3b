"""Gradient matching's parts, all classes at once: weight gradients by class (`class_gradients.py`), distances between
them (`distances.py`), MDC's subsets (`subsets.py`), DREAM's representatives (`representatives.py`)."""
