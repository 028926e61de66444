"""Training: the loop, its configuration, callbacks, checkpoints and the run record."""
