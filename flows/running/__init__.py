"""Run a stage, with or without Prefect. No other package imports Prefect, except `flows.condense`."""
