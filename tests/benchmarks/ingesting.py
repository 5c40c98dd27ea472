"""What ``bench_ingest`` and ``bench_engine`` time, each in a process of its own, which prints JSON:
``python -m tests.benchmarks.ingesting {steps,kernel,peer} FOLDER OUT SIDE QUALITY``.
"""

from __future__ import annotations

import gc
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def spent(work: Callable[[], object]) -> dict[str, float]:
    cpu, clock = cpu_seconds(), time.perf_counter()
    work()
    gc.collect()  # ends the decoder, whose time counts once it has been waited for
    return {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - clock}


def clocks() -> Callable[[], float]:
    """Have the images step clocked: CPU seconds so far of decoding, resizing and encoding within it."""
    from pipeline import looking  # noqa: PLC0415
    from tests.benchmarks import timed_decoder  # noqa: PLC0415
    from tokenizer_service import jpegs  # noqa: PLC0415

    decoder, picture, decoding = looking.decoder, looking.picture, [0.0]

    def clocked(max_side: int) -> Any:
        made = decoder(max_side)
        made.function = "tests.benchmarks.timed_decoder:look"
        return made

    def told(answer: Any, max_side: int) -> Any:
        decoding[0] = answer[0]["spent_s"]
        return picture(answer, max_side)

    looking.decoder, looking.picture = clocked, told
    jpegs.encode = timed_decoder.timed(jpegs.encode)
    return lambda: decoding[0] + timed_decoder.spent_s


def steps(folder: Path, out: Path, side: int, quality: int) -> dict[str, Any]:
    """Ingest a sealed delivery, in process: CPU seconds of each step, and of the kernel within the last."""
    from infra.options import CorpusOptions  # noqa: PLC0415  # the peer's process has no need of ours
    from infra.telemetry import Log  # noqa: PLC0415
    from pipeline import build, folding, plan  # noqa: PLC0415
    from pipeline.engine import Inline  # noqa: PLC0415
    from pipeline.jobs import configured  # noqa: PLC0415

    settings = [f"pipeline.ingest.max_side = {side}", f"pipeline.ingest.quality = {quality}"]
    options = CorpusOptions(corpus=str(out), overrides=[*settings, "pipeline.filters.max_aspect = 2"])
    config, corpus, found, within = configured(options), options.open(), {}, clocks()
    with corpus.writing(purpose="benchmark"):
        cpu = cpu_seconds()
        version = folding.fold(corpus, corpus.head(), [str(folder)])
        found["fold"] = {"cpu_s": cpu_seconds() - cpu}
        version = replace(version, as_of=datetime.now(UTC).isoformat())
        for step in plan.ingest_steps(config, datetime.now(UTC)):

            def work(version: Any = version, step: Any = step) -> None:
                found["version"] = build.run(corpus, version, [step], Inline(), Log())

            found[step.name] = spent(work)
            version = found.pop("version")
    found["within"] = {"cpu_s": within()}
    found["images"]["rows"] = corpus.artifact(version, "images").counts.get("kept", 0)
    return found


def kernel(folder: Path, _out: Path, side: int, quality: int) -> dict[str, Any]:
    """Decode, resize and encode the folder's JPEGs, and nothing else."""
    from tokenizer_service import jpegs  # noqa: PLC0415

    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    def work() -> None:
        for data in files:
            found = jpegs.small(data, side)
            assert found is not None
            jpegs.encode(found.pixels_HWC, quality)

    return {"kernel": spent(work)}


def peer(folder: Path, out: Path, side: int, quality: int) -> dict[str, Any]:
    """img2dataset over the same files, by ``file://`` addresses, in one process besides its own."""
    from img2dataset import download  # noqa: PLC0415

    shutil.rmtree(out, ignore_errors=True)
    listed = out.with_suffix(".txt")
    listed.write_text("".join(f"file://{path}\n" for path in sorted(folder.glob("*.jpg"))))

    def work() -> None:
        download(
            url_list=str(listed),
            output_folder=str(out),
            output_format="webdataset",
            image_size=side,
            resize_mode="keep_ratio_largest",
            resize_only_if_bigger=True,
            encode_quality=quality,
            processes_count=1,
            thread_count=4,
            number_sample_per_shard=500,
            enable_wandb=False,
        )

    found = spent(work)
    done = [json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json")]
    return {"peer": {**found, "rows": sum(done)}}


if __name__ == "__main__":
    mode, folder, out, side, quality = sys.argv[1:]
    told = {"steps": steps, "kernel": kernel, "peer": peer}[mode](
        Path(folder), Path(out), int(side), int(quality)
    )
    sys.stdout.write("\n" + json.dumps(told) + "\n")
