"""The parts of methods with a latent diffusion model: its folder (`folder.py`), the model itself (`model.py`), latents
of the real images class by class (`latents.py`), and prototypes of them (`prototypes.py`)."""
