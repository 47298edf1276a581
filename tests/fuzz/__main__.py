"""A long run: `python -m tests.fuzz 10000 [--seed N] [--door NAME] [--case N] [--jobs N]`."""

import argparse
import multiprocessing
import os
import sys
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.fuzz.doors import DOORS
from tests.fuzz.trial import FAULTS, Row, columns_of, faults, settle, tried

COLUMNS = ("cases", "refused", "same", "legal other", *FAULTS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000, help="cases, shared out evenly over the doors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", choices=list(DOORS), help="only this one (repeatable)")
    parser.add_argument("--case", type=int, help="try this case alone and say what it was")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    names = arguments.door or list(DOORS)
    cases = [(names[n % len(names)], arguments.seed, n // len(names)) for n in range(arguments.count)]
    if arguments.case is not None:
        cases = [(name, arguments.seed, arguments.case) for name in names]
    for name in names:
        assert DOORS[name].good
    settle()
    rows = []
    with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
        for row in pool.imap_unordered(tried, cases, chunksize=8):
            rows.append(row)
            if arguments.case is not None or faults(row):
                print(described(row), flush=True)
    print(table(rows, names))
    return int(any(map(faults, rows)))


def described(row: Row) -> str:
    """A case, how it is had again, and what came of it."""
    outcome = row.outcome
    return (f"--door {row.door!r} --seed {row.seed} --case {row.number}: {', '.join(faults(row)) or outcome.verdict}; "
            f"{outcome.seconds:.1f} s, {outcome.megabytes:.0f} MB\n  {row.what!r:.400}\n  {outcome.detail!r}")


def table(rows: list[Row], names: list[str]) -> str:
    """A line a door: how many cases ended how."""
    counts = Counter((row.door, column) for row in rows for column in columns_of(row))
    lines = [[f"{name:22}", *(f"{counts[name, column]:>13}" for column in COLUMNS)] for name in names]
    total = [f"{sum(counts[name, column] for name in names):>13}" for column in COLUMNS]
    head = [f"{'door':22}", *(f"{column:>13}" for column in COLUMNS)]
    return "\n".join(map("".join, (head, *lines, [f"{'all':22}", *total])))


if __name__ == "__main__":
    sys.exit(main())
