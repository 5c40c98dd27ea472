from __future__ import annotations

import csv
import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli import MISTAKE, run
from pipeline import config as configs
from pipeline import reading
from pipeline.scale import cluster as clusters
from pipeline.scale import command, model, rates, sheet
from pipeline.scale.cluster import Cluster, Nodes
from pipeline.scale.rates import Rates, StepRate
from pipeline.scale.shapes import GIB, SHAPES, Scene

EXAMPLES = sorted((Path(clusters.__file__).parent / "clusters").glob("*.toml"))
TARGET = 340_000_000
"""Images of CM3Leon (arXiv 2309.02591, table 1)."""
NODES = Nodes(count=4, cpus=16, memory_gib=64, price_per_hour=2.0)


@pytest.fixture(scope="module")
def measured() -> Rates:
    return rates.load()


def cpus(**changes: object) -> Cluster:
    return Cluster.model_validate(
        {"name": "test", "nodes": (NODES,), "prices_on": "2026-11-28", **changes}, strict=False
    )


IMAGES = st.integers(1, TARGET)


@given(IMAGES, IMAGES, st.sampled_from([1, 7]))
def test_more_images_never_take_less(one: int, other: int, deliveries: int) -> None:
    small, large = sorted((one, other))
    found = [
        model.forecast(Scene(images=num, deliveries=deliveries), cpus(), rates.load()).total
        for num in (small, large)
    ]
    for name in ("cpu_s", "driver_s", "bytes", "objects", "tasks", "worker_bytes", "driver_bytes"):
        assert found[0][name] <= found[1][name] * (1 + 1e-9), name


@given(IMAGES)
def test_the_total_is_the_sum_of_the_steps_and_of_memory_the_most(images: int) -> None:
    found = model.forecast(Scene(images=images), cpus(), rates.load())
    for name in ("tasks", "cpu_s", "driver_s", "seconds", "money", "bytes", "objects"):
        assert math.isclose(found.total[name], sum(getattr(one, name) for one in found.steps)), name
    assert found.total["worker_bytes"] == max(one.worker_bytes for one in found.steps)
    hours = found.total["seconds"] / 3600
    assert math.isclose(found.total["money"], hours * 4 * 2.0)


@given(st.integers(10_000, 10_000_000))
def test_a_step_that_goes_shard_by_shard_takes_twice_as_much_of_twice_as_many(images: int) -> None:
    one, two = (
        {
            need.step: need
            for need in model.forecast(Scene(images=num, shard_rows=1), cpus(), rates.load()).steps
        }
        for num in (images, 2 * images)
    )
    for step in ("records", "images", "filter", "features", "screen", "split", "embed", "queries"):
        fixed = rates.load().steps[step].fixed_s * one[step].workers
        assert math.isclose(two[step].cpu_s - fixed, 2 * (one[step].cpu_s - fixed)), step


def test_every_figure_of_a_step_is_as_it_is_written(measured: Rates) -> None:
    step = StepRate(
        fixed_s=10,
        shard_s=2,
        row_s=0.5,
        listing_shard_s=0.01,
        files={"f": rates.FileRate(fixed=7, row=3)},
        entry_bytes=100,
    )
    told = measured.model_copy(update={"steps": {**measured.steps, "filter": step}})
    need = model.need("filter", Scene(images=1000, shard_rows=100), cpus(), told)
    assert need.tasks == 10
    assert need.cpu_s == 10 * 10 + 2 * 10 + 0.5 * 1000
    assert need.workers == 10
    assert need.driver_s == pytest.approx(0.01 * 10 + 1e-6 * 10)
    assert need.seconds == pytest.approx(620 / 10 + need.driver_s)
    assert need.money == pytest.approx(need.seconds / 3600 * 8)
    assert need.files == {"f": 7 + 3 * 1000}
    assert need.bytes == 3007 + 1000
    assert need.objects == 10 * 2 + 1


def test_workers_are_as_many_as_memory_holds(measured: Rates) -> None:
    big = model.need("images", Scene(images=TARGET, shard_rows=400_000), cpus(), measured)
    small = model.need("images", Scene(images=TARGET), cpus(), measured)
    assert small.workers == 64
    assert big.workers == 4 * int(64 * clusters.GIB // big.worker_bytes) < 64


def test_a_rate_of_a_cpu_is_never_taken_for_one_of_a_gpu(measured: Rates) -> None:
    gpus = NODES.model_copy(update={"gpus": 2})
    plain = model.forecast(Scene(images=TARGET), cpus(nodes=(gpus,)), measured)
    assert {one.on for one in plain.steps} == {"cpu"}
    assert "features" in plain.counts_cpu
    assert "counted on CPUs" in sheet.lines(plain)
    told = cpus(nodes=(gpus,), gpu_speedup=50.0, gpu_speedup_source="a test")
    fast = model.forecast(Scene(images=TARGET), told, measured)
    assert fast.counts_cpu == []
    assert {one.step for one in fast.steps if one.on == "gpu"} == {
        name for name, shape in SHAPES.items() if shape.on_gpu
    }
    slow, quick = ({one.step: one for one in found.steps}["features"] for found in (plain, fast))
    assert (slow.workers, quick.workers) == (64, 8)
    assert slow.seconds - slow.driver_s == pytest.approx(slow.cpu_s / 64)
    assert quick.seconds - quick.driver_s == pytest.approx(quick.cpu_s / 8 / 50)


def test_a_rate_of_a_gpu_is_of_no_use_without_one(measured: Rates) -> None:
    step = measured.steps["features"].model_copy(update={"device": "cuda"})
    told = measured.model_copy(update={"steps": {**measured.steps, "features": step}})
    with pytest.raises(ValueError, match="features was measured on a GPU and test has none"):
        model.forecast(Scene(images=1000), cpus(), told)


def test_work_and_bytes_of_tokens_go_with_their_number(measured: Rates) -> None:
    one, four = (
        model.need("tokenize", Scene(images=10**6, tokens_per_image=num), cpus(), measured)
        for num in (256, 1024)
    )
    rate = measured.steps["tokenize"]
    beside = rate.fixed_s * one.workers + rate.shard_s * one.tasks
    assert four.cpu_s - beside == pytest.approx(4 * (one.cpu_s - beside))


def test_what_breaks_at_340_million_is_told_with_its_bound_and_why(measured: Rates) -> None:
    found = model.forecast(Scene(images=TARGET), clusters.load(EXAMPLES[0]), measured)
    told = {(one.step, one.what) for one in found.breaks}
    # Read out of the code; whoever mends one of them changes its shape.
    assert told >= {
        ("dedup", "worker memory"),
        ("pack", "manifest"),
    }
    assert all(one.needs > one.bound and one.because for one in found.breaks)
    assert not {step for step, _ in told} & {"vq", "align", "lists", "probes", "index"}
    small = model.forecast(Scene(images=100_000), clusters.load(EXAMPLES[0]), measured)
    assert small.breaks == []


def test_with_the_settings_of_a_cluster_no_object_of_340_million_images_passes_its_bound(
    measured: Rates,
) -> None:
    settings = configs.load(reading.CONFIGS / "cluster.toml")
    told = model.forecast(command.scene_of(settings, images=TARGET), clusters.load(EXAMPLES[0]), measured)
    assert {one.what for one in told.breaks}.isdisjoint({"manifest", "object"})


def test_the_index_is_sized_by_kind_and_the_cheapest_that_fits_is_chosen(measured: Rates) -> None:
    found = model.forecast(Scene(images=TARGET), cpus(), measured)
    assert found.index_kind == "ivf_pq"
    assert found.index_bytes["ivf_pq"] < found.index_bytes["flat"] / 10
    assert found.index_bytes["flat"] == pytest.approx(TARGET * (measured.width * 4 + 8), rel=0.01)


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=5, unique=True),
    st.floats(0, 1e3),
    st.floats(0, 1e-2),
)
def test_a_line_is_found_again(amounts: list[int], fixed: float, each: float) -> None:
    costs = [fixed + each * amount for amount in amounts]
    found = rates.line(amounts, costs)
    assert min(found) >= 0
    for amount, cost in zip(amounts, costs, strict=True):
        assert found[0] + found[1] * amount == pytest.approx(cost, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_of_a_cluster_can_be_read(path: Path) -> None:
    assert clusters.load(path).cpus >= 64


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name"),
        ('name = "x"', "nodes"),
        ('name = "x"\n[[nodes]]\ncount = 0\ncpus = 1\nmemory_gib = 1', "count"),
        ('name = "x"\n[[nodes]]\ncount = 1\ncpus = 1\nmemory_gib = 1\nprice_per_hour = 1', "prices_on"),
        ('name = "x"\ngpu_speedup = 9\n[[nodes]]\ncount = 1\ncpus = 1\nmemory_gib = 1\ngpus = 1', "source"),
        (
            (
                'name = "x"\ngpu_speedup = 9\ngpu_speedup_source = "y"\n'
                "[[nodes]]\ncount = 1\ncpus = 1\nmemory_gib = 1"
            ),
            "no GPU",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_and_says_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        clusters.load(path)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["plan", *words]) == 0
    return capsys.readouterr().out


def test_the_command_answers_as_json_as_a_table_and_as_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", str(TARGET), "--cluster", str(EXAMPLES[0])]
    found = json.loads(planned(capsys, *words, "--json", "--out", str(tmp_path / "plan.csv")))
    assert found["total"]["bytes"] > 1e13
    rows = list(csv.DictReader((tmp_path / "plan.csv").read_text().split("step,file")[0].splitlines()))
    assert rows[-1]["step"] == "total"
    assert sum(float(row["seconds"]) for row in rows[:-1]) == pytest.approx(float(rows[-1]["seconds"]))
    assert found["total"]["seconds"] == pytest.approx(float(rows[-1]["seconds"]))
    text = planned(capsys, *words, "--out", str(tmp_path / "plan.html"))
    assert "breaks: pack: manifest" in text
    page = (tmp_path / "plan.html").read_text()
    assert page.count('class="fill"') == 3 * len(found["steps"])
    assert "examples.pack_group" in page


def test_nodes_can_be_told_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    told = "count = 2, cpus = 8, memory_gib = 32, price_per_hour = 0.5"
    words = ["--images", "1000", "--nodes", told, "--prices-on", "2026-11-28", "--json"]
    found = json.loads(planned(capsys, *words))
    assert found["cluster"]["nodes"][0]["cpus"] == 8
    assert found["total"]["money"] == pytest.approx(found["total"]["seconds"] / 3600)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--images", "0"], "--images 0"),
        (["--images", "9", "--out", "plan.txt"], "plan.txt"),
        (["--images", "9", "--cluster", "none.toml"], "none.toml"),
        (["--images", "9", "--rates", "none.json"], "none.json"),
        (["--images", "9", "--nodes", "count = 1"], "cpus"),
        (["--images", "9", "--gpu-speedup", "9"], "no GPU"),
    ],
)
def test_a_mistake_is_named(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *words]) == MISTAKE
    assert why in capsys.readouterr().err


def test_a_forecast_of_a_build_is_asked_for_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--nodes", "count = 1, cpus = 1, memory_gib = 1"]) == MISTAKE
    assert "--dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["align", "lists", "probes", "index", "vq"])
def test_a_task_over_all_rows_of_a_delivery_takes_no_more_memory_of_ten_times_as_many(
    measured: Rates, step: str
) -> None:
    scene = Scene(images=10 * TARGET, deliveries=10)
    ten, one = (model.need(step, replace(scene, deliveries=num), cpus(), measured) for num in (10, 1))
    assert one.worker_bytes == pytest.approx(ten.worker_bytes, rel=0.05)
    # Squares are as many as are asked for, 39 GB of 200,000.
    assert one.worker_bytes < (40 if step == "vq" else 16) * clusters.GIB


def test_each_delivery_is_judged_again_with_all_that_came_before_it(measured: Rates) -> None:
    scene = Scene(images=TARGET)
    one = model.need("dedup", scene, cpus(), measured)
    nine = model.need("dedup", replace(scene, deliveries=9), cpus(), measured)
    assert nine.cpu_s == pytest.approx(5 * one.cpu_s, rel=0.01)


def test_what_was_measured_of_a_corpus_is_not_divided_among_threads_again(measured: Rates) -> None:
    told = model.need("dedup", Scene(images=TARGET), cpus(), measured, tasks=1, cpu_s=2.0)
    assert told.task_s == 2.0
    whole = model.need("dedup", Scene(images=TARGET), cpus(), measured)
    assert whole.cpu_s / 16 < whole.task_s < whole.cpu_s


def test_reading_every_tar_is_no_work_that_a_gpu_shortens(measured: Rates) -> None:
    gpus = cpus(nodes=(NODES.model_copy(update={"gpus": 1}),), gpu_speedup=1e6, gpu_speedup_source="a test")
    found = model.need("vq", Scene(images=TARGET), gpus, measured)
    tars = measured.steps["images"].files["images.tar"].row * TARGET
    assert found.seconds > 2e-9 * tars


def test_a_model_stays_as_large_as_it_is_and_lists_are_sized_by_their_number(measured: Rates) -> None:
    million, target = (
        {step: model.need(step, Scene(images=num), cpus(), measured).files for step in ("vq", "bpe", "lists")}
        for num in (10**6, TARGET)
    )
    assert (million["vq"], million["bpe"]) == (target["vq"], target["bpe"])
    lists = Scene(images=TARGET).layout(measured.width).lists
    assert target["lists"] == {"lists.faiss": lists * measured.width * 4}


def test_segments_take_what_their_layout_takes_and_their_parts_as_much_without_lists(measured: Rates) -> None:
    scene = Scene(images=TARGET)
    layout = scene.layout(measured.width)
    index, codes = (model.need(step, scene, cpus(), measured).files for step in ("index", "codes"))
    assert index["segment.faiss"] == layout.segments * layout.file_bytes
    assert index["segment.faiss"] > layout.segments * layout.bytes + 2 * measured.width * TARGET
    lists = layout.lists * measured.width * 4
    assert index["segment.faiss"] - codes["part.faiss"] == pytest.approx(layout.segments * lists)


def test_what_has_to_be_said_of_workers_is_told_as_a_line_of_settings() -> None:
    found = model.forecast(Scene(images=TARGET), clusters.load(EXAMPLES[0]), rates.load())
    (large,) = (note for note in sheet.notes(found) if "pipeline.workers.large" in note)
    line = large.partition("say ")[2]
    told = tomllib.loads(line)["pipeline"]["workers"]["large"]
    assert set(told) == {one.step for one in found.steps if one.worker_bytes > sheet.RESERVED}
    assert all(told[one.step] * GIB >= one.worker_bytes for one in found.steps if one.step in told)
    assert any("raise pipeline.workers.deadline_s" in note for note in sheet.notes(found))
    small = sheet.notes(model.forecast(Scene(images=2_000), clusters.load(EXAMPLES[0]), rates.load()))
    assert not any("pipeline.workers" in note for note in small)


def test_a_node_whose_disk_is_smaller_than_what_packs_look_into_is_told_of(measured: Rates) -> None:
    def told(disk_gib: float | None, **scene: int) -> list[str]:
        nodes = (NODES, NODES.model_copy(update={"disk_gib": disk_gib}))
        found = model.forecast(Scene(images=TARGET, **scene), cpus(nodes=nodes), measured)
        return [note for note in sheet.notes(found) if "fetched again and again" in note]

    needs = {
        one.step: one
        for one in model.forecast(Scene(images=TARGET), cpus(), measured).steps
        if one.disk_bytes
    }
    assert set(needs) == {"neighbors", "pack"}
    tokenize = measured.steps["tokenize"].files["tokens.arrow"].row
    wanted = TARGET * tokenize * 1024 / measured.tokens_per_image
    assert needs["pack"].disk_bytes == pytest.approx(wanted)
    index = model.need("index", Scene(images=TARGET), cpus(), measured)
    assert needs["neighbors"].disk_bytes == pytest.approx(sum(index.files.values()), rel=1e-3)
    assert told(None) == told(wanted / GIB) == []
    assert told(512) == [
        f"pack: looks into {sheet.amount(wanted)} of tokens, a node keeps 512.0 GiB: fetched again and again"
    ]
    assert [note.partition(":")[0] for note in told(1)] == ["neighbors", "pack"]
    assert told(512, tokens_per_image=128) == []
