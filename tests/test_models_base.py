"""A base opens by folder, and a name that leads nowhere is a clear error."""

from pathlib import Path

import pytest

from retrieveall.errors import NotFoundError
from retrieveall.models.base import base_folder, open_base
from tests.models import ARCHITECTURES, Architecture, save_tiny_base


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
