import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_common.units import (
    format_binary,
    format_bytes,
    format_count,
    format_duration,
    parse_count,
    parse_duration,
    parse_memory,
    parse_size,
)

sizes = st.integers(0, 10**17)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (16 * 10**9, "16.0 GB"),
        (-2_000_000, "-2.0 MB"),
        (10**19, "10000.0 PB"),
        (math.inf, "inf"),
    ],
)
def test_bytes_are_shown_in_powers_of_1000(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(1023, "1023 B"), (1024, "1.0 KiB"), (2**20 - 1, "1.0 MiB"), (1_234_567_890, "1.1 GiB")],
)
def test_binary_sizes_are_shown_in_powers_of_1024(n, text):
    assert format_binary(n) == text


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("16GB", 16 * 10**9),
        ("16GiB", 16 * 2**30),
        ("512MB", 512 * 10**6),
        (" 1.5 gib ", 3 * 2**29),
        ("16Gi", 16 * 2**30),
        ("4096", 4096),
        ("7 B", 7),
        ("0.1GiB", round(2**30 / 10)),
        ("123456789012345.678kB", 123456789012345678),  # exact, where floats are not
    ],
)
def test_size_is_read_in_the_unit_that_is_said(text, n):
    assert parse_size(text) == n


def test_size_of_ambiguous_unit_is_refused_with_both_readings():
    with pytest.raises(ConfigError, match="'16G' can be read in two ways") as caught:
        parse_size("16G")
    assert caught.value.hint == "write 16GB (powers of 1000) or 16GiB (powers of 1024)"


@pytest.mark.parametrize("text", ["", "GB", "1.GB", "1e9", "16 XB", "1 2 GB", "-1GB", "١GBx"])
def test_text_that_is_no_size_is_refused_with_a_hint(text):
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert caught.value.hint


@given(sizes)
def test_size_shown_and_read_again_is_within_the_last_digit(n):
    shown = format_bytes(n)
    unit = parse_size("1" + shown.split()[1])
    assert abs(parse_size(shown) - n) <= (unit / 20 if unit > 1 else 0)


@given(sizes)
def test_binary_size_shown_and_read_again_is_within_the_last_digit(n):
    shown = format_binary(n)
    unit = parse_size("1" + shown.split()[1])
    assert abs(parse_size(shown) - n) <= (unit / 20 + 0.5 if unit > 1 else 0)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.7, "1.00K"),
        (12_345, "12.3K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (1_234_567, "1.23M"),
        (7_000_000_000, "7.00B"),
        (-5000, "-5.00K"),
        (0.25, "0.25"),
        (math.nan, "nan"),
    ],
)
def test_count_is_shown_to_three_digits(n, text):
    assert format_count(n) == text


@pytest.mark.parametrize(
    ("text", "n"), [("4k", 4000), ("1.5M", 1_500_000), ("7b", 7 * 10**9), ("1200", 1200)]
)
def test_count_is_read_with_its_suffix(text, n):
    assert parse_count(text) == n


def test_count_that_is_not_whole_is_refused():
    with pytest.raises(ConfigError, match=r"'1.0005k' is not a whole number"):
        parse_count("1.0005k")


@given(st.integers(1, 10**14))
def test_count_shown_and_read_again_agrees_to_three_digits(n):
    assert parse_count(format_count(n)) == pytest.approx(n, rel=0.005)


@given(st.integers(-999, 999))
def test_count_below_a_thousand_is_shown_exactly(n):
    assert parse_count(format_count(n)) == n


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0000123, "12.3µs"),
        (0.25, "250ms"),
        (0.9996, "1.0s"),
        (59.94, "59.9s"),
        (59.96, "1m 00s"),
        (125, "2m 05s"),
        (3599.6, "1h 00m"),
        (3720, "1h 02m"),
        (86_399, "1d 00h"),
        (270_000, "3d 03h"),
        (-5, "-5.0s"),
        (math.nan, "nan"),
    ],
)
def test_duration_is_shown_in_its_two_largest_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("2m 05s", 125), ("1h30m", 5400), ("250ms", 0.25), ("1.5d", 129_600), ("-5s", -5)],
)
def test_duration_is_read_with_its_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "5s later", "m", "1:30"])
def test_text_that_is_no_duration_is_refused_with_a_hint(text):
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)
    assert caught.value.hint


@given(st.floats(1e-6, 1e8))
def test_duration_shown_and_read_again_is_within_half_of_its_second_unit(seconds):
    smaller = {60: 0.05, 3600: 0.5, 86_400: 30, math.inf: 1800}
    allowed = next(half for limit, half in smaller.items() if seconds < limit)
    tolerance = max(allowed, 0.5 if seconds >= 59.9 else 0) if seconds >= 1 else seconds * 0.006
    # At the limits the next larger pair of units may be the one that is shown.
    tolerance = max(tolerance, 30 if 3599 < seconds < 3600 else 0)
    tolerance = max(tolerance, 1800 if 86_370 <= seconds < 86_400 else 0)
    assert abs(parse_duration(format_duration(seconds)) - seconds) <= tolerance


@pytest.mark.parametrize("text", ["16GB", "16 gb", "16GiB", "16G", "16Gi", "16384MB", "0.015625TB"])
def test_memory_is_sold_in_powers_of_two(text):
    assert parse_memory(text) == 16 * 2**30


@pytest.mark.parametrize("text", ["16", "16bananas", "", "-4GB", "0GB", "100kB", "GB"])
def test_what_is_no_amount_of_memory_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="memory") as caught:
        parse_memory(text)
    assert "16GB" in caught.value.hint
