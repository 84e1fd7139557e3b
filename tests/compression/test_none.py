"""No compression: the fp16 logits, bit for bit."""

import numpy as np
import torch
from codec_cases import decode, encode, held_pairs, labels, make

from dcpipe.types import LabelShape

SHAPE = LabelShape(7, 12, 9)
ROWS = np.arange(SHAPE.images)


def test_none_is_exact_to_the_bit() -> None:
    codec = make("none", SHAPE)
    logits = labels(SHAPE)
    arrays = encode(codec, logits, ROWS, SHAPE)
    assert arrays["logits"].tobytes() == logits.numpy().astype(np.float16).tobytes()
    rows, stored = held_pairs(codec, SHAPE)
    assert torch.equal(decode(codec, arrays, rows, stored, SHAPE), logits.reshape(-1, SHAPE.classes))
