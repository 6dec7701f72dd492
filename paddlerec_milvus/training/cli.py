# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/trainer.py``."""

from __future__ import annotations

from collections.abc import Sequence

from paddlerec_milvus.command import model_parser, read_settings, run

EXAMPLES = """\
examples:
  python -u tools/trainer.py -m mind/config.yaml
  python -u tools/trainer.py -m mind/config.yaml --data datasets/my_log -o runner.epochs=3
  python -u tools/trainer.py -m mind/config.yaml --resume      # after Ctrl-C or a crash
  python -u tools/trainer.py -m /path/to/PaddleRec/models/rank/deepfm/config.yaml
  python -m paddle.distributed.launch --nproc_per_node 2 tools/trainer.py -m mind/config.yaml

Each epoch ends with a checkpoint: <runner.model_save_path>/<epoch>/rec.pdparams and rec.pdopt.
Ctrl-C saves the place inside an epoch. With runner.valid_data_dir each epoch is measured on those
users and the best is kept in best/ (tools/infer.py --best); runner.patience ends a run early.
Next: python -u tools/infer.py -m mind/config.yaml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and train; returns the exit code."""
    parser = model_parser("Train a model folder that keeps PaddleRec's contract.", EXAMPLES)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where the last run into runner.model_save_path stopped; on the CPU the result "
        "is bit-equal to a run that was never stopped, if two such runs of the folder are",
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        settings = read_settings(arguments)
        from paddlerec_milvus.training.trainer import train  # paddle: only after the settings hold

        train(settings, resume=arguments.resume)

    return run(work)
