"""`python -m tests.faults.crash_points`: more kills than the suite plays, or one of them again.

python -m tests.faults.crash_points --pairs 1000 --seed 7    pairs of random points
python -m tests.faults.crash_points --every                  each point, at its first time
python -m tests.faults.crash_points --list                   the points
python -m tests.faults.crash_points 'worker | settle in deliver.Deliverer._round_trip:after#1'
"""

import argparse
import sys

from tests.faults.crash_points.runs import Result, Run, Troupe, new_seed, report


def main() -> int:
    """Play what was asked for. Returns 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash_points")
    parser.add_argument("runs", nargs="*", type=Run.parse, help="`play | point#time | …`")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    troupe = Troupe()
    try:
        if options.list:
            for play, record in troupe.record().items():
                for point, times in sorted(record.points.items()):
                    print(f"{play} | {point}#1 … {times}")
            return 0
        runs = [*options.runs]
        if options.every:
            runs += troupe.every_point()
        if options.pairs:
            print(f"seed {options.seed}")
            runs += troupe.pairs(options.pairs, options.seed)

        def tell(result: Result) -> None:
            came = "WRONG   " if result.wrong else f"{result.deaths} killed"
            print(f"{came}  {result.run}", flush=True)

        wrong = report(troupe.play(runs, tell))
        print(wrong or f"{len(runs)} runs, all held")
        return 1 if wrong else 0
    finally:
        troupe.close()


if __name__ == "__main__":
    sys.exit(main())
