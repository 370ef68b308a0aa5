"""Pretrains the embedded base on a folder of raw text: `python -m train_jobs.pretrain_base --help`.

A thin shell over `retrieveall.training.pretrain`. It needs no Ray: the base is small enough for one
process, and a run that is killed goes on when the same command is given again. On a CPU set
OMP_NUM_THREADS and, with glibc, MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ to 1073741824:
returning freed pages to the system costs half of the speed on virtual machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch

from retrieveall.errors import NotFoundError
from retrieveall.models.card import UNKNOWN_LICENSE, TextNote, files_note, write_card
from retrieveall.models.devices import device_at_hand
from retrieveall.models.digest import base_digest
from retrieveall.training.pretrain import PretrainConfig, Pretraining
from retrieveall.training.raw_text import read_text_folder

NO_FLAGS = frozenset(("lookup", "continues"))
DATA_NOTE, LICENSE = "RETRIEVEALL_PRETRAIN_DATA_NOTE", "RETRIEVEALL_PRETRAIN_LICENSE"


def parse_arguments() -> argparse.Namespace:
    """Reads the command line; every number of `PretrainConfig` is a flag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--text", type=Path, required=True, help="folder of <language>.txt, a sentence a line"
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; an existing one goes on")
    parser.add_argument("--install", type=Path, help="where to put the finished model with its card")
    parser.add_argument(
        "--data-note",
        type=Path,
        default=os.environ.get(DATA_NOTE),
        help=f"Markdown on the text's sources and licence, for the card [env var: {DATA_NOTE};"
        "\ndefault: languages, bytes and digests of the files]",
    )
    parser.add_argument(
        "--license",
        default=os.environ.get(LICENSE, UNKNOWN_LICENSE),
        help=f"licence of the model as Hugging Face names it, such as cc-by-sa-4.0 [env var: {LICENSE};"
        f"\ndefault: {UNKNOWN_LICENSE}]",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--continue-from", type=Path, help="folder of a finished model to begin with, its tokenizer too"
    )
    at_hand = device_at_hand()
    parser.add_argument("--device", default=at_hand, help=f"where to train (here: {at_hand})")
    for field in dataclasses.fields(PretrainConfig):
        if field.name not in NO_FLAGS:
            kind = type(field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    return parser.parse_args()


def text_note(path: Path | None, text: Path, license: str) -> TextNote:
    """Returns what the card says of the text; it is read before the training, not after.

    Raises:
        NotFoundError: There is no such note.
    """
    if path is None:
        return TextNote(text=files_note(text), license=license)
    if not path.is_file():
        raise NotFoundError(f"There is no note {path}. Give --data-note a Markdown file, or leave it out.")
    return TextNote(text=path.read_text(encoding="utf-8"), license=license)


def main() -> None:
    """Runs or resumes the pretraining."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    settings = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(PretrainConfig)
        if field.name not in NO_FLAGS
    }
    lines = read_text_folder(arguments.text)
    note = text_note(arguments.data_note, arguments.text, arguments.license)
    begun = arguments.continue_from
    config = PretrainConfig(**settings, continues=base_digest(begun) if begun else None)
    run = Pretraining(arguments.run, lines, config, continued=begun, device=arguments.device)
    run.run()
    if arguments.install:
        run.save_model(arguments.install)
        write_card(run, arguments.run, arguments.install, note, continued=begun)


if __name__ == "__main__":
    main()
