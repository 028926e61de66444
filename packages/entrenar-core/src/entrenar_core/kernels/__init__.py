"""Functions from arrays to arrays: no Tensor, no tape. `registry` says how they are dispatched."""

from entrenar_core.kernels.activation import swiglu as swiglu
from entrenar_core.kernels.activation import swiglu_grad as swiglu_grad
from entrenar_core.kernels.attention import attention as attention
from entrenar_core.kernels.attention import attention_grad as attention_grad
from entrenar_core.kernels.attention import rope as rope
from entrenar_core.kernels.dropout import dropout as dropout
from entrenar_core.kernels.embedding import embedding as embedding
from entrenar_core.kernels.embedding import embedding_grad as embedding_grad
from entrenar_core.kernels.loss import cross_entropy as cross_entropy
from entrenar_core.kernels.loss import cross_entropy_grad as cross_entropy_grad
from entrenar_core.kernels.loss import distillation_grad as distillation_grad
from entrenar_core.kernels.matmul import matmul as matmul
from entrenar_core.kernels.norm import rms_norm as rms_norm
from entrenar_core.kernels.norm import rms_norm_grad as rms_norm_grad
from entrenar_core.kernels.registry import KERNELS as KERNELS
from entrenar_core.kernels.update import accumulate as accumulate
from entrenar_core.kernels.update import adamw as adamw
from entrenar_core.kernels.update import sum_of_squares as sum_of_squares
