"""The data types of the pipeline: frozen, checked once when they are made, and independent of files and orchestration.

* `base.py`     array types, `DataError`, how tasks run, shared checks and look-ups
* `images.py`   `EncodedImage`, `PlacedImage`, `ImageTable`, `Elsewhere`, `Decoding`, `ImageSet`, `Selection`
* `teacher.py`  `Teacher`, `Features`
* `labels.py`   `ViewPolicy`, `StoredViews`, `SoftLabels`, `LabelShape`, `LabelPack`
* `score.py`    `Score`
* `whitening.py`  `Whitening`

Dimension letters, everywhere: n images, v or K views, c or C classes, d features, m picked, h/w pixels.
"""

from dcpipe.types.base import (
    MIX_BOXES,
    MIXES,
    BudgetError,
    By,
    Colour,
    DataError,
    Ensemble,
    FloatArray,
    IntArray,
    Map,
    Mix,
    MixBox,
    NotApplicableError,
    Precision,
    Sliceable,
    check_labels,
    check_same_classes,
    describe_os_error,
    find_rows,
    require,
    run_in_turn,
)
from dcpipe.types.images import (
    EXACT,
    Decoder,
    Decoding,
    Elsewhere,
    EncodedImage,
    ImageSet,
    ImageTable,
    PlacedImage,
    Selection,
)
from dcpipe.types.labels import (
    VIEW_ARRAYS,
    LabelPack,
    LabelShape,
    SoftLabels,
    StoredViews,
    ViewPolicy,
    ViewSource,
    check_logits,
    reference_bytes,
)
from dcpipe.types.score import ALL_IMAGES_PROTOCOL, Score
from dcpipe.types.teacher import Features, Head, Teacher
from dcpipe.types.whitening import LARGEST, Whitening, check_whitened_size

__all__ = [
    "ALL_IMAGES_PROTOCOL",
    "EXACT",
    "LARGEST",
    "MIXES",
    "MIX_BOXES",
    "VIEW_ARRAYS",
    "BudgetError",
    "By",
    "Colour",
    "DataError",
    "Decoder",
    "Decoding",
    "Elsewhere",
    "EncodedImage",
    "Ensemble",
    "Features",
    "FloatArray",
    "Head",
    "ImageSet",
    "ImageTable",
    "IntArray",
    "LabelPack",
    "LabelShape",
    "Map",
    "Mix",
    "MixBox",
    "NotApplicableError",
    "PlacedImage",
    "Precision",
    "Score",
    "Selection",
    "Sliceable",
    "SoftLabels",
    "StoredViews",
    "Teacher",
    "ViewPolicy",
    "ViewSource",
    "Whitening",
    "check_labels",
    "check_logits",
    "check_same_classes",
    "check_whitened_size",
    "describe_os_error",
    "find_rows",
    "reference_bytes",
    "require",
    "run_in_turn",
]
