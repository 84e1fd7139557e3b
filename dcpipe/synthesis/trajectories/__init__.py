"""The parts of trajectory matching: training trajectories on the real images (`experts.py`), their files (`rows.py`)
and folders (`collection.py`), those of MTT's own code (`buffers.py`), the loss of an unrolled student and its gradients
(`unrolling.py`), and the loop over them (`engine.py`)."""
