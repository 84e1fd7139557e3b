"""The parts of gradient matching, which process all classes at once: weight gradients per class (`class_gradients.py`),
distances between them (`distances.py`), MDC's subsets (`subsets.py`), DREAM's representatives
(`representatives.py`)."""
