"""Runs entrenar-bench with runs that are made up: python made_up.py WORDS."""

import study_runners
from entrenar_bench import place
from entrenar_bench.cli import main

if __name__ == "__main__":
    place.DistillRunner = lambda _folder: study_runners.Strolling()
    main()
