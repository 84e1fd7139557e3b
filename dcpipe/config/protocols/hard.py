"""Hard labels for all sets, after "Hard Truths" (arXiv 2604.18811, CVPR 2026), which compares images without the help
of soft labels: with these, random images come close to condensed ones, because most of the accuracy is the teacher's.

Fixed by the paper, as far as notes of it say (its text was not at hand, and no code was found):
* The label of an image is its class, one-hot, also for sets that were made with soft labels: `dcpipe judge --protocol
  hard` leaves their labels aside. In a workspace, set `softlabels.method: none`, or read the row "hard labels".
* All sets, and random images, train with the same optimiser and the same compute, and so do all training images, which
  are then not the upper bound of their own best recipe.

Not known, so chosen here: the training of `rd3` with the labels exchanged, and so without CutMix, which mixes labels.
It is 400 epochs in batches of 50, Adam with lr 1e-3, the smoothing cosine with zeta = 1, random resized crops and
flips, and cross-entropy (KL at T = 1 to a one-hot label). The score of a set under `rd3`, less its score under `hard`,
is thus what the labels contribute. Students are tested at the last epoch.
"""

from __future__ import annotations

from dcpipe.config.protocols.rd3 import COMMON
from dcpipe.config.protocols.row import Row

ROWS: dict[str, Row] = {"hard": Row(COMMON | {"temperature": 1.0}, {}, labels="hard")}
