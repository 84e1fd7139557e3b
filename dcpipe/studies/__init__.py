"""Studies: many settings under one protocol."""
