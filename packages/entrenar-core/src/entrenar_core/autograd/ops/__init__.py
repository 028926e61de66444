"""The differentiable operations. `Tensor` has operators and methods for many of them."""

from entrenar_core.autograd.memory import memory_report as memory_report
from entrenar_core.autograd.ops.activation import gelu as gelu
from entrenar_core.autograd.ops.activation import gelu_linear as gelu_linear
from entrenar_core.autograd.ops.activation import leaky_relu as leaky_relu
from entrenar_core.autograd.ops.activation import log_softmax as log_softmax
from entrenar_core.autograd.ops.activation import relu as relu
from entrenar_core.autograd.ops.activation import relu_linear as relu_linear
from entrenar_core.autograd.ops.activation import sigmoid as sigmoid
from entrenar_core.autograd.ops.activation import silu as silu
from entrenar_core.autograd.ops.activation import softmax as softmax
from entrenar_core.autograd.ops.activation import softplus as softplus
from entrenar_core.autograd.ops.activation import swiglu as swiglu
from entrenar_core.autograd.ops.activation import swiglu_linear as swiglu_linear
from entrenar_core.autograd.ops.activation import swish as swish
from entrenar_core.autograd.ops.activation import tanh as tanh
from entrenar_core.autograd.ops.aligned import Aligned as Aligned
from entrenar_core.autograd.ops.attention import attention as attention
from entrenar_core.autograd.ops.attention import attention_weights as attention_weights
from entrenar_core.autograd.ops.attention import rope as rope
from entrenar_core.autograd.ops.compare import equal as equal
from entrenar_core.autograd.ops.compare import greater as greater
from entrenar_core.autograd.ops.compare import greater_equal as greater_equal
from entrenar_core.autograd.ops.compare import less as less
from entrenar_core.autograd.ops.compare import less_equal as less_equal
from entrenar_core.autograd.ops.compare import not_equal as not_equal
from entrenar_core.autograd.ops.conv1d import conv1d as conv1d
from entrenar_core.autograd.ops.conv1d import gelu_conv1d as gelu_conv1d
from entrenar_core.autograd.ops.conv1d import split_heads as split_heads
from entrenar_core.autograd.ops.dropout import dropout as dropout
from entrenar_core.autograd.ops.einsum import einsum as einsum
from entrenar_core.autograd.ops.elementwise import abs as abs  # noqa: A004
from entrenar_core.autograd.ops.elementwise import add as add
from entrenar_core.autograd.ops.elementwise import astype as astype
from entrenar_core.autograd.ops.elementwise import clip as clip
from entrenar_core.autograd.ops.elementwise import div as div
from entrenar_core.autograd.ops.elementwise import exp as exp
from entrenar_core.autograd.ops.elementwise import log as log
from entrenar_core.autograd.ops.elementwise import maximum as maximum
from entrenar_core.autograd.ops.elementwise import minimum as minimum
from entrenar_core.autograd.ops.elementwise import mul as mul
from entrenar_core.autograd.ops.elementwise import neg as neg
from entrenar_core.autograd.ops.elementwise import pow as pow  # noqa: A004
from entrenar_core.autograd.ops.elementwise import sqrt as sqrt
from entrenar_core.autograd.ops.elementwise import sub as sub
from entrenar_core.autograd.ops.elementwise import where as where
from entrenar_core.autograd.ops.expected import Expected as Expected
from entrenar_core.autograd.ops.expected import FromHidden as FromHidden
from entrenar_core.autograd.ops.indexing import gather as gather
from entrenar_core.autograd.ops.indexing import getitem as getitem
from entrenar_core.autograd.ops.indexing import scatter_add as scatter_add
from entrenar_core.autograd.ops.join import concat as concat
from entrenar_core.autograd.ops.join import split as split
from entrenar_core.autograd.ops.join import stack as stack
from entrenar_core.autograd.ops.linear_loss import AlignedParts as AlignedParts
from entrenar_core.autograd.ops.linear_loss import DistillationParts as DistillationParts
from entrenar_core.autograd.ops.linear_loss import (
    linear_aligned_distillation as linear_aligned_distillation,
)
from entrenar_core.autograd.ops.linear_loss import linear_cross_entropy as linear_cross_entropy
from entrenar_core.autograd.ops.linear_loss import linear_distillation as linear_distillation
from entrenar_core.autograd.ops.logit_loss import logit_distillation as logit_distillation
from entrenar_core.autograd.ops.loss import binary_cross_entropy as binary_cross_entropy
from entrenar_core.autograd.ops.loss import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from entrenar_core.autograd.ops.loss import cosine_similarity as cosine_similarity
from entrenar_core.autograd.ops.loss import cross_entropy as cross_entropy
from entrenar_core.autograd.ops.loss import info_nce as info_nce
from entrenar_core.autograd.ops.loss import kl_divergence as kl_divergence
from entrenar_core.autograd.ops.loss import l1 as l1
from entrenar_core.autograd.ops.loss import mse as mse
from entrenar_core.autograd.ops.loss import smooth_l1 as smooth_l1
from entrenar_core.autograd.ops.low_rank import low_rank_linear as low_rank_linear
from entrenar_core.autograd.ops.low_rank import low_rank_weight as low_rank_weight
from entrenar_core.autograd.ops.matmul import embedding as embedding
from entrenar_core.autograd.ops.matmul import linear as linear
from entrenar_core.autograd.ops.matmul import matmul as matmul
from entrenar_core.autograd.ops.mixed import Mixed as Mixed
from entrenar_core.autograd.ops.norm import layer_norm as layer_norm
from entrenar_core.autograd.ops.norm import rms_norm as rms_norm
from entrenar_core.autograd.ops.quant import fake_quantize as fake_quantize
from entrenar_core.autograd.ops.quant import round_ste as round_ste
from entrenar_core.autograd.ops.quant import stored_ste as stored_ste
from entrenar_core.autograd.ops.reduce import cumsum as cumsum
from entrenar_core.autograd.ops.reduce import logsumexp as logsumexp
from entrenar_core.autograd.ops.reduce import max as max  # noqa: A004
from entrenar_core.autograd.ops.reduce import mean as mean
from entrenar_core.autograd.ops.reduce import min as min  # noqa: A004
from entrenar_core.autograd.ops.reduce import std as std
from entrenar_core.autograd.ops.reduce import sum as sum  # noqa: A004
from entrenar_core.autograd.ops.reduce import var as var
from entrenar_core.autograd.ops.routed import Routed as Routed
from entrenar_core.autograd.ops.shape import expand as expand
from entrenar_core.autograd.ops.shape import flip as flip
from entrenar_core.autograd.ops.shape import pad as pad
from entrenar_core.autograd.ops.shape import permute as permute
from entrenar_core.autograd.ops.shape import reshape as reshape
from entrenar_core.autograd.ops.shape import squeeze as squeeze
from entrenar_core.autograd.ops.shape import transpose as transpose
from entrenar_core.autograd.ops.shape import unsqueeze as unsqueeze
