# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Samples per second, memory and reading cost of a MIND's training step on a CPU.

Ours and PaddleRec's by their own trainers, the same network in PyTorch in a loop of its own, all on
the full-size sample log (603,668 users, 367,982 items), whole steps with the reader. Every run is a
process of its own, the contenders take turns, and the median run is shown. The network is that of
training_speed.yaml.

    pip install 'paddlerec-milvus[bench,torch]'
    python benchmarks/training_speed.py --paddlerec /path/to/PaddleRec --work /tmp/speed
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import full_size
import yaml
from peers.runs import MODEL, ROOT, Contender, execute, options, peer
from tabulate import tabulate

from paddlerec_milvus.evaluation.report import machine, versions

ITEMS = {"item_count": full_size.ITEMS + 1}
SETTINGS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
SHAPES = [(128, 128), (128, 1280), (1024, 1280)]  # batch, negatives
READ = [(128, 128), (256, 1280), (1024, 1280)]  # steps that reading is compared with
TRAINER = ["-u", str(ROOT / "tools" / "trainer.py")]
LAUNCH = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
PADDLEREC, OURS, TORCH = "PaddleRec", "ours", "PyTorch, SparseAdam"
BEST, TWO = "ours, best interest and context", "ours, two processes"
PARTS = ("steps", "processes", "reader")

Check = tuple[str, str, str, bool]  # what, value, bar, whether it is met


def contenders(paddlerec: Path, data: Path, parts: Sequence[str]) -> list[Contender]:
    """In the order in which they take turns."""
    network = {**ITEMS, **SETTINGS["network"]}
    plain = {"train_data_dir": data, "valid_data_dir": None, "patience": 0}
    ways: dict[str, tuple[list[str], Mapping[str, Any]]] = {
        OURS: ([*TRAINER, *MODEL], network),
        TORCH: (peer("train_torch.py"), network),
        BEST: ([*TRAINER, *MODEL], network | SETTINGS["best_interest"]),
        TWO: ([*LAUNCH, TRAINER[-1], *MODEL], network),
    }

    def one(title: str, batch: int, negatives: int) -> Contender:
        command, hyper = ways[title]
        return Contender(title, command, batch, negatives, hyper, plain, rate=10_000)

    def theirs(batch: int, negatives: int) -> Contender:
        yaml_file = paddlerec / "models" / "recall" / "mind" / "config.yaml"
        command = ["-u", str(paddlerec / "tools" / "trainer.py"), "-m", str(yaml_file)]
        sizes = {key: network[key] for key in ("embedding_dim", "hidden_size", "maxlen")}
        hyper, runner = {**ITEMS, **sizes}, {"train_data_dir": data}
        return Contender(PADDLEREC, command, batch, negatives, hyper, runner, rate=800)

    listed = []
    if "steps" in parts:
        for shape in SHAPES:
            listed += [theirs(*shape)] if shape[0] == 128 else []  # the batch of its yaml
            listed += [one(title, *shape) for title in (OURS, TORCH, BEST)]
    if "reader" in parts:
        listed += [one(OURS, *shape) for shape in READ]
    if "processes" in parts:
        batch, negatives = SHAPES[-1]
        listed.append(one(OURS, batch, negatives))
        listed += [one(TWO, total, negatives) for total in (2 * batch, batch)]
    return list({contender.key: contender for contender in listed}.values())


def read_alone(data: Path, work: Path, threads: int) -> dict[str, Any]:
    """What a process that only reads costs; each batch size reads a whole epoch."""
    runner = options("runner", {"train_data_dir": data, "valid_data_dir": None, "patience": 0})
    hyper = options("hyper_parameters", {**ITEMS, **SETTINGS["network"]})
    sizes = [str(batch) for batch, _ in READ]
    command = [*peer("read_log.py"), "--batches", *sizes, "-o", *runner, *hyper]
    text, _ = execute(command, work / "read_log.log", threads)
    report: dict[str, Any] = json.loads(text.splitlines()[-1])
    return report


def bars(measured: Sequence[Contender], reader: Mapping[str, Any]) -> Iterator[Check]:
    """Every bar whose two sides were measured."""
    by_key = {contender.key: contender for contender in measured}

    def ratio(name: str, shape: tuple[int, int], other: str) -> float:
        return by_key[OURS, shape[0], shape[1]].median(name) / by_key[
            other, shape[0], shape[1]
        ].median(name)

    def at_least(what: str, value: float, bar: float) -> Check:
        return what, f"{value:.2f}", f"≥ {bar:g}", value >= bar

    def at_most(what: str, value: float, bar: float, unit: str = "") -> Check:
        return what, f"{value:.2f}{unit}", f"≤ {bar:g}{unit}", value <= bar

    least = {PADDLEREC: {(128, 128): 20, (128, 1280): 15}, TORCH: dict.fromkeys(SHAPES, 1)}
    for other, shapes in least.items():
        for shape, bar in shapes.items():
            if {(OURS, *shape), (other, *shape)} <= by_key.keys():
                what = f"{OURS} / {other}, batch {shape[0]}, {shape[1]} negatives"
                yield at_least(f"samples/s, {what}", ratio("rate", shape, other), bar)
                if other == PADDLEREC:
                    yield at_most(f"peak memory, {what}", ratio("peak_mb", shape, other), 1)
    batch, negatives = SHAPES[-1]
    for total, same in ((2 * batch, "the same batch a process"), (batch, "the same total batch")):
        if (TWO, total, negatives) in by_key:
            two, single = by_key[TWO, total, negatives], by_key[OURS, batch, negatives]
            what = f"samples/s, two processes / one, {same}"
            yield at_least(what, two.median("rate") / single.median("rate"), 1.6)
    for size, seconds in reader.get("seconds_a_batch", {}).items():
        shape = next(step for step in READ if step[0] == int(size))
        share = 100 * seconds / by_key[OURS, shape[0], shape[1]].median("step")
        yield at_most(f"reading / step, batch {size}, {shape[1]} negatives", share, 5, " %")
    if reader:
        yield at_most("start of the reader, to its first batch", reader["start"], 30, " s")
        yield at_most("peak memory of only reading", reader["peak_mb"] / 1000, 1.5, " GB")


def tables(measured: Sequence[Contender], checks: Sequence[Check], style: str) -> str:
    """All that was measured, then the bars."""
    rows = []
    for contender in sorted(measured, key=lambda one: (one.negatives, one.batch)):
        rates = [run["rate"] for run in contender.runs]
        rows.append(
            {
                "batch": contender.batch,
                "negatives": contender.negatives,
                "": contender.title,
                "samples/s": f"{contender.median('rate'):,.0f}",
                "lowest, highest": f"{min(rates):,.0f}, {max(rates):,.0f}",
                "step, ms": f"{1000 * contender.median('step'):.2f}",
                "reader, %": f"{100 * contender.median('reader') / contender.median('step'):.1f}",
                # a launcher's own memory says nothing of the processes that it starts
                "peak, MB": "" if contender.title == TWO else f"{contender.median('peak_mb'):,.0f}",
            }
        )
    met = [(*check[:3], "yes" if check[3] else "NO") for check in checks]
    how: dict[str, Any] = {"disable_numparse": True, "tablefmt": style}
    first = tabulate(rows, "keys", colalign=["right", "right", "left", *["right"] * 5], **how)
    second = tabulate(met, ["", "value", "bar", "met"], **how) if met else ""
    return f"{first}\n\n{second}\n"


def save(
    arguments: argparse.Namespace,
    measured: Sequence[Contender],
    checks: Sequence[Check],
    reader: Mapping[str, Any],
    load: float,
) -> None:
    """Write the JSON, and the same as markdown."""
    model = yaml.safe_load((ROOT / "models" / "recall" / "mind" / "config.yaml").read_text())
    torch = {"torch": version("torch")} if find_spec("torch") else {}
    report = {
        "measured": [
            {"title": one.title, "batch": one.batch, "negatives": one.negatives}
            | {"runs": one.runs}
            for one in measured
        ],
        "reader_alone": reader,
        "bars": [
            dict(zip(("what", "value", "bar", "met"), check, strict=True)) for check in checks
        ],
        "data": {"sample": " ".join(full_size.ARGUMENTS), **ITEMS},
        "seed": model["runner"]["seed"],
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "threads": arguments.threads,
        **SETTINGS,
        "machine": machine() | {"load_before": round(load, 2)},
        "versions": {**versions(), **torch},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    facts = {name: report[name] for name in ("data", "machine", "versions", "network")}
    lines = [
        f"- {name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
        for name, values in facts.items()
    ]
    head = f"Median of {arguments.repeats} runs of about {arguments.seconds:g} s; threads of a"
    head = f"# Speed of training MIND on a CPU\n\n{head} process: {arguments.threads}.\n"
    text = "\n".join([head, tables(measured, checks, "github"), *lines])
    arguments.out.with_suffix(".md").write_text(text + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paddlerec", type=Path, required=True, help="a checkout of PaddleRec")
    parser.add_argument("--work", type=Path, default=Path("output_speed"), help="kept for reruns")
    parser.add_argument("--seconds", type=float, default=20, help="of a run's steps, about (20)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process (1)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training_speed")
    arguments = parser.parse_args()
    for name in ("paddlerec", "work", "out"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    if not (arguments.paddlerec / "models/recall/mind/config.yaml").is_file():
        parser.error(f"--paddlerec {arguments.paddlerec}: not a checkout of PaddleRec")
    if "steps" in arguments.parts and not find_spec("torch"):
        parser.error("PyTorch is not installed: pip install 'paddlerec-milvus[torch]'")
    if arguments.seconds <= 0 or arguments.repeats < 1 or arguments.threads < 1:
        parser.error("--seconds is above 0, --repeats and --threads are at least 1")
    return arguments


def main() -> None:
    arguments, load = parse_arguments(), os.getloadavg()[0]
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    data = full_size.full_size_sample(work) / "train"
    reader = read_alone(data, work, arguments.threads) if "reader" in arguments.parts else {}
    measured = contenders(arguments.paddlerec, data, arguments.parts)
    for _ in range(arguments.repeats):  # in turns: what else the machine does meets all alike
        for contender in measured:
            contender.run(work, arguments.seconds, arguments.threads)
    checks = list(bars(measured, reader))
    print(tables(measured, checks, "simple"))
    save(arguments, measured, checks, reader, load)


if __name__ == "__main__":
    main()
