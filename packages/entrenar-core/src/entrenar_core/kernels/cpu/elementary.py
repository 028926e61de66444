"""Functions of one number, and of a row, that vectorize where they are called in a loop."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner


@inner
def exp(x):
    """eˣ for x ≤ 88, relative error below 2e-7; e⁻⁸⁷ below −87, NaN stays NaN.

    x = k·ln 2 + r with ln 2 in two parts (Cody and Waite), a polynomial of degree 6 in r, and 2ᵏ
    built in the exponent's bits: numba has no vector math library, and a call of `math.exp` in a
    loop keeps it from vectorizing.
    """
    x = F(-87.0) if x < F(-87.0) else x
    k = np.floor(x * F(1.44269504) + F(0.5))
    r = x - k * F(0.693359375) + k * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    bits = np.int32(np.int32(k) + np.int32(127)) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


@inner
def erf(x):
    """erf x, relative error below 5e-7; NaN stays NaN.

    x·P(x²)/Q(x²), fitted for the least relative error on 0 < x < 3.925, from where on erf x is 1
    in float32.
    """
    x = F(3.925) if x > F(3.925) else (F(-3.925) if x < F(-3.925) else x)
    t = x * x
    p = F(2.04616572e-06)
    p = p * t + F(2.84831276e-04)
    p = p * t + F(3.77191019e-03)
    p = p * t + F(5.27673043e-02)
    p = p * t + F(1.90578530e-01)
    p = p * t + F(1.12837915)
    q = F(3.80485841e-05)
    q = q * t + F(1.16370725e-03)
    q = q * t + F(1.49819049e-02)
    q = q * t + F(1.14176448e-01)
    q = q * t + F(5.02228558e-01)
    q = q * t + F(1.0)
    return x * p / q


@inner
def sigmoid(x):
    """1/(1 + e⁻ˣ), relative error below 4e-7; e⁻⁸⁰ below −80, NaN stays NaN."""
    negative = F(80.0) if -x > F(80.0) else -x
    return F(1.0) / (F(1.0) + exp(negative))


@inner
def peak_of(row):
    """The largest element of a row, −∞ for an empty one; a NaN may be passed over.

    A maximum of floats does not vectorize as long as NaN has to be kept. Floats are ordered as the
    integers that have their bits are, once those of negative ones are flipped.
    """
    best = np.int32(-0x7F800001)  # −∞
    for j in range(row.size):
        bits = np.float32(row[j]).view(np.int32)
        best = max(best, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    bits = np.int32(best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return bits.view(np.float32)
