"""Looking into model files: what they are, hold, need, and what is wrong with them."""

__version__ = "0.1.0"
