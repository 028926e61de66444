"""Functions from arrays to arrays: no Tensor, no tape. See `registry` for how they are dispatched."""

from .activation import swiglu as swiglu
from .activation import swiglu_grad as swiglu_grad
from .attention import attention as attention
from .attention import attention_grad as attention_grad
from .attention import rope as rope
from .embedding import embedding as embedding
from .embedding import embedding_grad as embedding_grad
from .loss import cross_entropy as cross_entropy
from .loss import cross_entropy_grad as cross_entropy_grad
from .loss import distillation_grad as distillation_grad
from .matmul import matmul as matmul
from .norm import rms_norm as rms_norm
from .norm import rms_norm_grad as rms_norm_grad
from .registry import KERNELS as KERNELS
from .update import accumulate as accumulate
from .update import adamw as adamw
from .update import sum_of_squares as sum_of_squares
