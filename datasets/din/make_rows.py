# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows for models/rank/din from a prepared folder; ``--help`` shows how.

A row is ``clicked items;their categories;item;its category;label``: for an item that was clicked
next one with label 1, and one with label 0 for an item that the user never clicked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.command import run
from paddlerec_milvus.data.catalogue import read_catalogue
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import SettingsError

IntArray = npt.NDArray[np.int64]


def rows_of(
    clicks: IntArray,
    places: Sequence[int],
    categories: IntArray,
    maxlen: int,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Two lines for each of ``places`` in a user's ``clicks`` [n]: what was clicked there, and not.

    ``categories`` [V] are numbers from 1, 0 where an item has none.
    """
    others = np.setdiff1d(np.arange(1, len(categories)), clicks)
    for place in places:
        history = clicks[max(0, place - maxlen) : place]
        before = ";".join(" ".join(map(str, part)) for part in (history, categories[history]))
        for item, label in ((clicks[place], 1), (rng.choice(others), 0)):
            yield f"{before};{item};{categories[item]};{label}\n"


def write_rows(data: Path, out: Path, per_user: int, maxlen: int, seed: int) -> tuple[int, int]:
    """Write ``out``/train and ``out``/test; returns item_count and cat_count for the yaml."""
    prepared, rng = open_prepared(data.resolve()), np.random.default_rng(seed)
    count = prepared.item_count
    numbers = read_catalogue(prepared.folder, count - 1).category_numbers(np.arange(count))
    categories = 1 + numbers.astype(np.int64)
    log = read_click_log(prepared.train_dir)
    train, test = list[str](), list[str]()
    for clicks in np.split(log.items, log.indptr[1:-1]):
        places = np.arange(1, len(clicks))
        chosen = np.sort(rng.choice(places, min(per_user, len(places)), replace=False))
        train += rows_of(clicks, chosen.tolist(), categories, maxlen, rng)
    users = read_held_out(prepared.test_dir)
    for history, truths in zip(users.history_list(), users.truth_list(), strict=True):
        clicks = np.append(history, truths[0])
        test += rows_of(clicks, [len(history)], categories, maxlen, rng)
    with staged(out) as folder:
        for name, lines in (("train", train), ("test", test)):
            (folder / name).mkdir()
            rng.shuffle(lines)
            (folder / name / "part-0").write_text("".join(lines), encoding="utf-8")
        _require_free(out)  # again: what was put there meanwhile is not to be replaced
    return count, int(categories.max()) + 1


def _require_free(out: Path) -> None:
    """SettingsError: something is at ``out``."""
    if out.exists():
        raise SettingsError(f"--out {out}: is there already; name another place")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not be there")
    parser.add_argument("--per_user", type=int, default=100, help="places of a user's clicks (100)")
    parser.add_argument("--maxlen", type=int, default=100, help="clicks of a history (100)")
    parser.add_argument("--seed", type=int, default=1, help="of places and negatives (1)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        for name in ("per_user", "maxlen"):
            if getattr(arguments, name) < 1:
                raise SettingsError(f"--{name} {getattr(arguments, name)}: expected 1 or more")
        _require_free(arguments.out)
        items, cats = write_rows(
            arguments.data, arguments.out, arguments.per_user, arguments.maxlen, arguments.seed
        )
        place = arguments.out.resolve()
        print(
            f"next: python -u tools/trainer.py -m din/config.yaml -o runner.train_data_dir="
            f"{place / 'train'} runner.test_data_dir={place / 'test'} "
            f"hyper_parameters.item_count={items} hyper_parameters.cat_count={cats}"
        )

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
