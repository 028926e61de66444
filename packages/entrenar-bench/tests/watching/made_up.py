"""Runs entrenar-bench with runs that are made up, whose workers have so long when they are asked to
end: python made_up.py SECONDS WORDS."""

import sys

import study_runners
from entrenar_bench import place
from entrenar_bench.cli import main
from entrenar_bench.study import run

if __name__ == "__main__":
    place.DistillRunner = lambda _folder: study_runners.Strolling()
    run._GRACE_SECONDS = float(sys.argv.pop(1))
    main()
