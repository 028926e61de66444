"""The prediction of several models as one: a weighted mean of their probabilities."""

from entrenar_core.kernels.loss import log_sum_exp
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def add_to_mixture(mixture, logits, *, weight, temperature):
    """Adds one model's probabilities to those of a mixture, both as logits at one temperature.

    With T the temperature and S the ids of the mixture: mixture (N, S) becomes
    T·log(exp(mixture/T) + weight·softmax(logits[:, :S]/T)), logits (N, W) having at least S ids;
    returns it. A mixture starts as −∞ everywhere, and is T·log of the mean once the weights of what
    was added are 1 together. Nothing is lost of probabilities that a float cannot hold.
    Source: the "linear opinion pool", Stone 1961, doi:10.1214/aoms/1177704873.
    """
    xp = array_module(mixture)
    kind = mixture.dtype.type
    t = kind(temperature)
    chosen = logits[:, : mixture.shape[1]] / t
    added = chosen - log_sum_exp(xp, chosen) + xp.log(kind(weight))
    mixture[...] = t * xp.logaddexp(mixture / t, added)
    return mixture
