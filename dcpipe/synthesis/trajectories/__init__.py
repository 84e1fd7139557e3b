"""The parts of trajectory matching: training trajectories on the real images (`experts.py`), the loss of an unrolled
student and its gradients (`unrolling.py`), and the loop over them (`engine.py`)."""
