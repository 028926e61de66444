"""What a training will take, from shapes alone: memory term by term, and operations."""

from entrenar_core.estimate.find import find_shape as find_shape
from entrenar_core.estimate.setup import Setup as Setup
from entrenar_core.estimate.shape import ModelShape as ModelShape
from entrenar_core.estimate.terms import Memory as Memory
from entrenar_core.estimate.terms import Term as Term
