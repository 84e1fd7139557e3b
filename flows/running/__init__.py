"""How a stage runs: the only home of Prefect."""
