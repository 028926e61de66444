"""The page of a profile in a browser: on a desk and a telephone, light and dark."""

import pytest

from chromium import browser
from entrenar_bench.profile.page import Shown, profile_page
from page_checks import check

pytestmark = pytest.mark.conformance

SECTIONS = ["Flame graph", "Time", "Loss", "Memory", "Throughput", "Machine"]


def test_a_profile_is_whole_and_readable_on_every_screen(profiled, tmp_path, capsys):
    page = tmp_path / "profile.html"
    shown = Shown(loss_curves=True, memory_timeline=True, throughput_histogram=True)
    page.write_text(profile_page(profiled.profile, shown), encoding="utf-8")
    with browser(tmp_path) as opened:
        folder = check(opened, page, "profile", sections=SECTIONS, figures=4)
    with capsys.disabled():
        print(f"\nscreenshots of a profile: {folder}")
