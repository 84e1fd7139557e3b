"""The parts of methods with a latent diffusion model: its folder (`folder.py`), the model itself (`model.py`, or
`dit.py` if its condition is a number), latents of the real images class by class (`latents.py`), prototypes of them
(`prototypes.py`), sampling (`sampling.py`), and what all of these methods do (`rows.py`)."""
