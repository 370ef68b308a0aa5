"""The model card of a pretrained base: recipe, loss curves and bits per byte, all from the run's files.

What the text is and under which licence it stands only its owner knows: both come from a note, and without
one the card lists the files and names no licence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from retrieveall.digests import digest_file
from retrieveall.training.pretrain import PretrainConfig, Pretraining, bits_per_byte

_HERE = Path(__file__).parent
UNKNOWN_LICENSE = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextNote:
    """What a card says of the text that a base was trained on.

    Attributes:
        text: Markdown: sources, attribution, licence.
        license: Licence of weights and tokenizer as Hugging Face names it, such as ``cc-by-sa-4.0``.
    """

    text: str
    license: str = UNKNOWN_LICENSE


def files_note(folder: Path) -> str:
    """Describes a folder of ``<language>.txt`` by what is sure: languages, bytes and digests.

    Raises:
        NotFoundError: A file went while it was read.
    """
    rows = [
        f"| {path.stem} | {path.stat().st_size:,} | {digest_file(path)} |"
        for path in sorted(folder.glob("*.txt"))
    ]
    return "\n".join(
        [
            "No note on the text was given. The licence of weights and tokenizer follows from these files:",
            "",
            "| language | bytes | SHA-256 |",
            "|---|---|---|",
            *rows,
        ]
    )


def write_card(
    run: Pretraining, run_folder: Path, target: Path, note: TextNote, *, continued: Path | None = None
) -> None:
    """Writes README.md, LICENSE.md, recipe.json, loss.png and bits_per_byte.json beside the weights.

    Args:
        run: The finished run.
        run_folder: Where its log stands.
        target: Folder of the weights.
        note: What is said of the text.
        continued: Folder of the model that the run began with: its recipe is kept in the new one, and its
            loss curves beside the new one, as ``loss-1.png`` and so on, oldest first.
    """
    recipe = asdict(run.config)
    if continued:
        recipe["continued_recipe"] = json.loads((continued / "recipe.json").read_text(encoding="utf-8"))
        _copy_plots(continued, target, len(_stages(recipe)) - 1)
    bits = {
        language: round(bits_per_byte(run.model, run.codec, lines), 3)
        for language, lines in run.heldout.items()
    }
    _write(target / "recipe.json", json.dumps(recipe, indent=1, sort_keys=True) + "\n")
    _write(target / "bits_per_byte.json", json.dumps(bits, indent=1) + "\n")
    license_text = f"# Licence and attribution\n\nLicence: {note.license}\n\n{note.text.strip()}\n"
    _write(target / "LICENSE.md", license_text)
    _plot_loss(run_folder / "log.jsonl", target / "loss.png")
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    plots = [name for name in _plot_names(len(_stages(recipe))) if (target / name).exists()]
    words = {"name": target.resolve().name, "license": note.license, "data": note.text.strip()}
    words["plots"] = "\n".join(f"![loss]({name})" for name in plots)
    _write(target / "README.md", _card_text(run.config, recipe, bits, parameters, words))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _copy_plots(continued: Path, target: Path, stages: int) -> None:
    """Keeps the curves of a model of so many stages; its last is ``loss.png`` there and numbered here."""
    for number, name in enumerate(_plot_names(stages), start=1):
        if (continued / name).exists():
            shutil.copy(continued / name, target / f"loss-{number}.png")


def _plot_names(stages: int) -> list[str]:
    return [*(f"loss-{number}.png" for number in range(1, stages)), "loss.png"]


def _card_text(
    config: PretrainConfig,
    recipe: Mapping[str, Any],
    bits: Mapping[str, float],
    parameters: int,
    words: Mapping[str, str],
) -> str:
    rows = ["| language | bits per byte |", "|---|---|", *(f"| {k} | {v:.3f} |" for k, v in bits.items())]
    return Template((_HERE / "card_template.md").read_text(encoding="utf-8")).substitute(
        parameters=f"{parameters / 1e6:.1f}",
        layers=config.layers,
        width=config.hidden_size,
        vocabulary=config.vocabulary_size,
        languages=len(bits),
        tokens=f"{config.tokens / 1e6:.1f}",
        steps=config.steps,
        step_tokens=config.step_tokens,
        row_tokens=config.row_tokens,
        lr=config.matrix_lr,
        warmup=config.warmup_steps,
        decay=round(100 * config.decay_share),
        sampled=config.sampled_classes,
        lessons=round(100 * config.lesson_share),
        flags=_flags(config),
        history=_history(recipe),
        table="\n".join(rows),
        **words,
    )


def _stages(recipe: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Returns the recipes of all stages, oldest first."""
    return [] if recipe is None else [*_stages(recipe.get("continued_recipe")), recipe]


def _history(recipe: Mapping[str, Any]) -> str:
    """How much was trained in all, and what each stage began with."""
    stages = _stages(recipe)
    tokens = [stage["tokens"] / 1e6 for stage in stages]
    total = f"{sum(tokens):.1f} million tokens"
    if len(stages) == 1:
        return f"{total} in one stage, from random weights."
    summed = " + ".join(f"{count:.1f}" for count in tokens)
    begun = [f"stage {n} with {stage['continues']}" for n, stage in enumerate(stages[1:], start=2)]
    return (
        f"{total} in {len(stages)} stages ({summed}), each from the weights that the one before left; the"
        f" first from random ones.\nDigests of the models that they began with: {', '.join(begun)}."
    )


def _flags(config: PretrainConfig) -> str:
    """The command's flags that make this recipe: those that differ from the defaults."""
    default = asdict(PretrainConfig())
    return " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in asdict(config).items()
        if name == "tokens" or (name not in ("lookup", "continues") and value != default[name])
    ) + (" --continue-from MODEL" if config.continues else "")


def _plot_loss(log: Path, target: Path) -> None:
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([r["step"] for r in records], [r["loss"] for r in records], linewidth=1)
    axes.set(xlabel="step", ylabel="loss in nats per token", title="Pretraining of the embedded base")
    figure.savefig(target, dpi=110)
