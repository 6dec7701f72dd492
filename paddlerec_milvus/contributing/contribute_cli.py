# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/contribute.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.command import model_parser, run
from paddlerec_milvus.config import find_yaml
from paddlerec_milvus.contributing.contribute import SAMPLE_KEYS, contribute

EXAMPLES = """\
examples:
  git clone https://github.com/PaddlePaddle/PaddleRec ../PaddleRec
  python tools/contribute.py -m my_model/config.yaml --to ../PaddleRec
  python tools/contribute.py -m mind/config.yaml --to ../PaddleRec --name mind_cosine

Written there: models/<task>/NAME, flat and complete (what the zoo shares is written in, a small
sample of the data, static_model.py, infer.py, README.md and README_en.md in PaddleRec's sections,
both yamls with its sections alone), test_tipc/configs/NAME, a branch in test_tipc/prepare.sh and
a row in the lists of README.md, README_CN.md and README_EN.md. Nothing else is touched, nothing is
committed. The same command again replaces what it wrote, once that is committed or put aside.
Before: python tools/check_model.py -m NAME/config.yaml
"""
OPT_HELP = (
    f"{' and '.join(SAMPLE_KEYS)} alone: the data that the sample is taken from. Settings are "
    "written from the folder's config.yaml and config_bigdata.yaml: edit those"
)
DATA_HELP = (
    "a folder made by datasets/amazonbook/prepare.py: take the sample from its train/ and test/. "
    "Its item ids must be below item_count of config.yaml, which is written as it is"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and write the contribution; returns the exit code."""
    parser = model_parser(
        "Write a model folder into a checkout of PaddleRec.", EXAMPLES, opt=OPT_HELP, data=DATA_HELP
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="PADDLEREC", help="the checkout's folder"
    )
    parser.add_argument(
        "--name", help="the folder's name there, where PaddleRec has one of the same name"
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        yaml = find_yaml(arguments.config_yaml)
        written = contribute(yaml, arguments.opt, arguments.data, arguments.to, arguments.name)
        print(f"written in {arguments.to}:")
        print("\n".join(f"  {file}" for file in written.files))
        folder = Path(written.files[0]).parent
        print("try it there:")
        print(f"  cd {arguments.to / folder}")
        print("  python -u ../../../tools/trainer.py -m config.yaml")
        print("  python -u infer.py -m config.yaml -top_n 50")
        print("  python -u ../../../tools/static_trainer.py -m config.yaml")
        print("  cd ../../.. && git status")
        print("left to you:")
        print("\n".join(f"  {line}" for line in written.left))

    return run(work)
