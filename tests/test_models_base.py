"""A base opens by folder, with or without a pad token, and a name that leads nowhere is a clear error."""

import json
from pathlib import Path

import pytest

from retrieveall.engine.protocol import Decoded, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import NotFoundError
from retrieveall.models.base import base_folder, open_base
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import Examples
from tests.models import ARCHITECTURES, LABELS, SENTENCES, Architecture, save_tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_opens_frozen(architecture: Architecture, tmp_path: Path) -> None:
    base = open_base(str(save_tiny_base(tmp_path / "base", architecture)))
    assert base.folder == tmp_path / "base"
    assert not any(p.requires_grad for p in base.model.parameters())
    assert base.codec.text("Anna sang").ids
    assert 0 <= base.pad_id < len(base.tokenizer)


def test_a_name_that_leads_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match="nobody/nothing"):
        base_folder("nobody/nothing")
    with pytest.raises(NotFoundError, match="not a model"):
        base_folder("not a model!")


def without_pad_token(base: Path) -> Path:
    """Takes the pad token out of a saved base, as Llama's and Mistral's have none."""
    for name in ("tokenizer_config.json", "config.json"):
        settings = json.loads((base / name).read_text())
        kept = {key: value for key, value in settings.items() if key not in ("pad_token", "pad_token_id")}
        (base / name).write_text(json.dumps(kept))
    return base


def answers(base: Path) -> list[Decoded]:
    """Decodes sentences of many lengths in one batch, so that most rows are padded."""

    def no_adapter(digest: str) -> Path:
        raise AssertionError(digest)

    engine = TransformersEngine(EngineConfig(base_model=base, dtype="float64", threads=1), no_adapter)
    try:
        texts = [engine.codec.text(text) for text in SENTENCES]
        rows = [
            Row(
                prompt_ids=build_prompt(engine.codec, text, Examples()).ids,
                sentence=text,
                labels=LABELS,
            )
            for text in texts
        ]
        return [future.result(30.0) for future in [engine.submit(row) for row in rows]]
    finally:
        engine.close()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_a_pad_token_rows_are_padded_with_the_end_token(
    architecture: Architecture, tmp_path: Path
) -> None:
    padded = save_tiny_base(tmp_path / "padded", architecture)
    bare = without_pad_token(save_tiny_base(tmp_path / "bare", architecture))
    base = open_base(str(bare))

    assert base.tokenizer.pad_token_id is None
    assert base.pad_id == base.tokenizer.eos_token_id != open_base(str(padded)).pad_id
    spans = [one.spans for one in answers(bare)]
    assert any(spans) and spans == [one.spans for one in answers(padded)]
