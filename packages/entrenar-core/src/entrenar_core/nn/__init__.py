"""Modules: plain classes with a `__call__` and parameters found by walking their attributes."""

from entrenar_core.nn.dropout import Dropout as Dropout
from entrenar_core.nn.dropout import dropout as dropout
from entrenar_core.nn.dropout import no_dropout as no_dropout
from entrenar_core.nn.embedding import Embedding as Embedding
from entrenar_core.nn.linear import Linear as Linear
from entrenar_core.nn.linear import Projection as Projection
from entrenar_core.nn.module import Module as Module
from entrenar_core.nn.module import modules as modules
from entrenar_core.nn.norm import LayerNorm as LayerNorm
from entrenar_core.nn.norm import RMSNorm as RMSNorm
from entrenar_core.nn.parameter import new_parameter as new_parameter
from entrenar_core.nn.parameter import shapes_only as shapes_only
from entrenar_core.nn.places import watching_modules as watching_modules
from entrenar_core.nn.rotary import Rotary as Rotary
