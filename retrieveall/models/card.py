"""The model card of a pretrained base: recipe, loss curve and bits per byte, all from the run's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from retrieveall.training.pretrain import PretrainConfig, Pretraining, bits_per_byte

_HERE = Path(__file__).parent


def write_card(run: Pretraining, run_folder: Path, target: Path, *, continued: Path | None = None) -> None:
    """Writes README.md, LICENSE.md, recipe.json, loss.png and bits_per_byte.json beside the weights.

    Args:
        run: The finished run.
        run_folder: Where its log stands.
        target: Folder of the weights.
        continued: Folder of the model that the run began with; its recipe is kept in the new one.
    """
    recipe = asdict(run.config)
    if continued:
        recipe["continued_recipe"] = json.loads((continued / "recipe.json").read_text(encoding="utf-8"))
    bits = {
        language: round(bits_per_byte(run.model, run.codec, lines), 3)
        for language, lines in run.heldout.items()
    }
    _write(target / "recipe.json", json.dumps(recipe, indent=1, sort_keys=True) + "\n")
    _write(target / "bits_per_byte.json", json.dumps(bits, indent=1) + "\n")
    shutil.copy(_HERE / "card_license.md", target / "LICENSE.md")
    _plot_loss(run_folder / "log.jsonl", target / "loss.png")
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    _write(target / "README.md", _card_text(run.config, recipe, bits, parameters))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _card_text(
    config: PretrainConfig, recipe: Mapping[str, Any], bits: Mapping[str, float], parameters: int
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
        beginning=_beginning(recipe),
        table="\n".join(rows),
    )


def _beginning(recipe: Mapping[str, Any]) -> str:
    """What the run began with: random weights, or models each of which continued the next."""
    lines = []
    while before := recipe.get("continued_recipe"):
        tokens = f"{before['tokens'] / 1e6:.1f} million tokens"
        lines.append(f"It began with the weights of a model (digest {recipe['continues']}) of {tokens}.")
        recipe = before
    return "\n".join([*lines, "The first weights were random."])


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
