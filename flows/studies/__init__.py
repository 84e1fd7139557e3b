"""Studies beside the pipeline."""
