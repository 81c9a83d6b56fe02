"""A simulated climate to train on: a general circulation model, and its states as ERA5 has them.

`levels` and `remap` are numpy alone; `gcm` alone imports jax and the model, and is imported only
when a simulation runs.
"""
