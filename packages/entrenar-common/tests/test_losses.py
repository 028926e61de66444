"""The table of what types have lost."""

from dataclasses import dataclass

from entrenar_common.losses import loss_table


@dataclass
class OneLoss:
    form: str
    tensors: int
    nbytes: int
    bits_per_weight: float
    worst: float
    mean: float
    sqnr: float | None


def test_a_type_is_a_row_and_what_lost_nothing_has_no_ratio():
    table = loss_table(
        [
            OneLoss("q8_0", 3, 34_000, 8.5, 0.0039, 0.00117, 45.36),
            OneLoss("f32", 1, 4000, 32.0, 0.0, 0.0, None),
        ]
    )
    assert table.rows == [
        ("q8_0", 3, "34.0 kB", "8.50", "0.39%", "0.117%", "45.4 dB"),
        ("f32", 1, "4.0 kB", "32.00", "0.00%", "0.000%", "–"),
    ]
