"""The arguments of the application: what they refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serve_apps.args import ServeArgs


@pytest.mark.parametrize("stage", ["ingress", "router", "retriever"])
def test_gpus_that_nothing_would_use_are_refused(stage: str) -> None:
    with pytest.raises(ValidationError, match=rf"{stage}\.gpus is 0\.5, but only the generator"):
        ServeArgs.model_validate({"workspace": "w", stage: {"gpus": 0.5}})
    assert ServeArgs.model_validate({"workspace": "w", "generator": {"gpus": 1}}).generator.gpus == 1
