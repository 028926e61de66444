from entrenar_core.autograd import Parameter as Parameter
from entrenar_core.autograd import Tensor as Tensor
from entrenar_core.autograd import checkpoint as checkpoint
from entrenar_core.autograd import memory_report as memory_report
from entrenar_core.autograd import no_grad as no_grad
from entrenar_core.autograd import op as op
from entrenar_core.autograd import ops as ops
from entrenar_core.testing import check_grads as check_grads

__version__: str
