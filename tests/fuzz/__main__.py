"""``python -m tests.fuzz --members N --deliveries M --seed S``; the last line is JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import running


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--members", type=int, default=0, help="mutated inputs of the guarded readers")
    parser.add_argument("--deliveries", type=int, default=0, help="mutated deliveries through ingest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one")
    parser.add_argument("--saved", type=Path, default=Path("build/fuzz"), help="folder for what fails")
    asked = parser.parse_args()
    found = running.run(
        seed=asked.seed,
        first=asked.first,
        num_members=asked.members,
        num_deliveries=asked.deliveries,
        saved=asked.saved,
    )
    sys.stdout.write(running.line(found) + "\n")
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
