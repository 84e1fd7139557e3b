"""Judge any condensed set: train students on it, and on what it must be compared with, under one protocol.

* `request.py`    what is judged, how, and against which images: two files of a folder, from which a run resumes
* `rows.py`       what students are trained on: the set, its labels in other forms, random images, all images
* `judgement.py`  the result: one row per set and student, as JSON and CSV
* `fairness.py`   DD-Ranking's scores, and the accuracy at equal compute, of its rows
* `pages.py`      the same as Markdown and as one HTML file with figures
* `comparing.py`  several judgements side by side, with a paired test over seeds

`flows/judging.py` runs it.
"""
