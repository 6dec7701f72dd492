# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/export.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.subcommands import CommandParser, as_typed
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

EXAMPLES = """\
examples:
  python -u tools/export.py -m mind/config.yaml --out exports/mind
  python -u tools/export.py -m mind_unseen/config.yaml --data datasets/mine --out exports/mine
  python -m paddlerec_milvus.serving --export exports/mine     # needs no paddle

The folder holds the user tower (and where features make vectors the item tower) as ONNX and in
PaddlePaddle's format for inference, item vectors, what items are called, channels and ranker where
there are any, and a manifest with the SHA-256 of all files. It is compared with the checkpoint on
1,000 users before it appears; an older export in its place is replaced.
"""


def _parser() -> CommandParser:
    parser = model_parser(
        "Write a trained model as files that serve without PaddlePaddle.", EXAMPLES
    )
    parser.add_argument(
        "--epoch", default="", metavar="N", help="of the checkpoint (the best, else the last)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and export; returns the exit code."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        settings = read_settings(arguments)
        folder = settings.path("infer_load_path")
        trained = TrainedModel(settings, checkpoint_of(folder, arguments.epoch, "--epoch "))
        from paddlerec_milvus.export.exporting import export_model  # paddle: not for --help

        exported = export_model(trained, arguments.out.resolve())
        manifest = exported.manifest
        print(f"{manifest.model}, digest {manifest.digest}, {manifest.items:,} items")
        for tensor in (*manifest.inputs, manifest.output):
            shape = ", ".join(map(str, tensor.shape))
            kind = "output" if tensor == manifest.output else "input"
            print(f"  {kind:6} {tensor.name} [{shape}] {tensor.dtype}")
        size = sum(file.stat().st_size for file in exported.checkpoint.rglob("*"))
        print(
            f"largest difference from the checkpoint's vectors, {manifest.users:,} users: "
            f"{manifest.difference:.1e}"
        )
        print(f"{len(manifest.files) + 1} files, {size / 2**20:.1f} MiB: {exported.checkpoint}")
        print(as_typed(f"next: python -m paddlerec_milvus.serving --export {arguments.out}"))

    return run(work)
