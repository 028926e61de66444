"""Modules: plain classes with a `__call__` and parameters found by walking their attributes."""

from .embedding import Embedding as Embedding
from .linear import Linear as Linear
from .module import Module as Module
from .norm import RMSNorm as RMSNorm
from .rotary import Rotary as Rotary
