"""`vehicle-search convert`: from a checkpoint of open_clip's trainer to a model folder of safetensors."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.files import new_folder
from mteb_vehicle_search.models.listing import quoted

READER = "mteb_vehicle_search.models.trainer_checkpoint"
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
STATED = ("quick_gelu", "pretrained", *PREPROCESSING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", type=Path, help="such as logs/RUN/checkpoints/epoch_3.pt")
    parser.add_argument("out", type=Path, help="folder to write, which must not exist yet")
    parser.add_argument(
        "--arch",
        required=True,
        help="open_clip's name of the architecture (--model in training), or a folder with an open_clip_config.json",
    )
    parser.add_argument("--quick-gelu", action="store_true", help="--force-quick-gelu in training")
    parser.add_argument(
        "--pretrained", metavar="TAG", help="--pretrained in training, if it was a tag: it decides the preprocessing"
    )
    usual = "in training (default: that of --pretrained, else of --arch, else OpenAI's)"
    parser.add_argument("--mean", type=float, nargs=3, metavar="X", help=f"--image-mean {usual}")
    parser.add_argument("--std", type=float, nargs=3, metavar="X", help=f"--image-std {usual}")
    parser.add_argument("--interpolation", choices=("bicubic", "bilinear"), help=f"--image-interpolation {usual}")
    parser.add_argument("--resize-mode", choices=("shortest", "squash"), help=f"--image-resize-mode {usual}")


def main(args: argparse.Namespace) -> int:
    """Convert, and say how to evaluate what was made."""
    stated = {key: getattr(args, key) for key in STATED}
    made = convert(args.checkpoint, args.arch, args.out, {key: value for key, value in stated.items() if value})
    epoch = f", epoch {made['epoch']}" if made.get("epoch") is not None else ""
    sys.stdout.write(f"{args.out}: {made['parameters']:,} parameters{epoch}\n")
    sys.stdout.write(f"Taken to be trained with {made['taken']}. If not: --help names the options.\n")
    if tokenizer := made.get("tokenizer"):
        sys.stdout.write(
            f"Its texts are read by the tokenizer {tokenizer}, which is missing:\n"
            f"  hf download {tokenizer} --include '*token*' '*.model' --local-dir {quoted(str(args.out))}\n"
        )
    sys.stdout.write(
        f"Evaluate it:\n  vehicle-search run -t VehicleImageSearchMini -m {quoted(str(args.out.absolute()))}\n"
    )
    return 0


def convert(checkpoint: Path, arch: str, out: Path, stated: dict[str, object] | None = None) -> dict[str, object]:
    """Write the folder `out`, whole or not at all; return what is to be said of it.

    The checkpoint is a pickle: a process of its own reads it, and takes nothing but tensors and plain values from it.

    Args:
        checkpoint: What open_clip's trainer wrote, or a state dict.
        arch: open_clip's name of the architecture, or a folder with an `open_clip_config.json`.
        out: The model folder; must not exist.
        stated: How it was trained, where other than `arch` says: what is stated of `STATED`.

    Raises:
        ModelLoadError: The checkpoint cannot be read, is not of that architecture, or `out` exists.
    """
    if not checkpoint.is_file():
        raise ModelLoadError(f"There is no file {checkpoint}.")
    if out.exists() or out.is_symlink():
        raise ModelLoadError(f"{out} exists already; nothing is written over.", "Name another folder.")
    with new_folder(out) as partial:
        words = [str(checkpoint), arch, str(partial), json.dumps(stated or {})]
        # What libraries warn of may be in the encoding of the system.
        how = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace", "check": False}
        done = subprocess.run([sys.executable, "-P", "-m", READER, *words], **how)  # noqa: S603 -- our own module
        try:
            said = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            last = (done.stderr.strip().splitlines() or [""])[-1]
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
            raise ModelLoadError(
                f"The process that reads {checkpoint} ended with {how}. {last}".strip(),
                "It may have run out of memory." if done.returncode < 0 else None,
            ) from None
        if "error" in said:
            raise ModelLoadError(said["error"], said["hint"])
    return said
