"""Tensors that remember how they were computed, and the walk back."""

from entrenar_core.autograd import ops as ops
from entrenar_core.autograd.checkpoint import checkpoint as checkpoint
from entrenar_core.autograd.memory import HeldByOp as HeldByOp
from entrenar_core.autograd.memory import MemoryReport as MemoryReport
from entrenar_core.autograd.memory import memory_report as memory_report
from entrenar_core.autograd.op import no_grad as no_grad
from entrenar_core.autograd.op import op as op
from entrenar_core.autograd.tape import backward as backward
from entrenar_core.autograd.tensor import Parameter as Parameter
from entrenar_core.autograd.tensor import Tensor as Tensor
