"""``make bench NAME=…``: run one benchmark, print its JSON as the last line, keep it in results.jsonl."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.jsonl")


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        sys.exit(f"usage: make bench NAME=…, one of: {', '.join(known)}")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # img2dataset's import asks the network otherwise
    result: dict[str, Any] = importlib.import_module(f"tests.benchmarks.bench_{sys.argv[1]}").run()
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}"
    line = json.dumps({"name": sys.argv[1], **result, "machine": machine, "commit": commit()})
    with RESULTS.open("a") as file:
        file.write(line + "\n")
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
