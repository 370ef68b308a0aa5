"""Probabilities of the few tokens that the grammar allows, without the rest of the vocabulary.

The output head is a third of a small model's work at a decoding step, and only some dozens of its
rows are ever asked for. Where a model does more to its logits than one linear layer (a cap, a scale),
which is found out by trying, the model computes them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence

from retrieveall.engine.last_layer import LastLayer

_PROBE_TOKENS = 8


class Question(NamedTuple):
    """What a row's next token may be.

    Attributes:
        allowed: Sorted token ids, at least one.
        favour: What is added to the logarithm of each one's probability; empty for nothing.
        votes: How many opinions of one vote each are then in the sum, by which it is divided: a mean of
            opinions is as sure as they are.
    """

    allowed: Sequence[int]
    favour: Sequence[float] = ()
    votes: float = 1.0


class AllowedScorer:
    """Runs a causal LM and scores allowed tokens after the last position.

    Args:
        model: Any Hugging Face causal LM.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._body = model.base_model
        head = model.get_output_embeddings()
        self._weight_VD = None if head is None else head.weight
        self._bias_V = getattr(head, "bias", None)
        if not self._head_is_linear():
            self._weight_VD = None
        self._last_layer = LastLayer(self._body)

    @property
    def skips_vocabulary(self) -> bool:
        """True where the output head is one linear layer and only its needed rows are multiplied."""
        return self._weight_VD is not None

    def _head_is_linear(self) -> bool:
        if self._weight_VD is None or self._body is self._model:
            return False
        probe = torch.arange(_PROBE_TOKENS, device=self._weight_VD.device)[None]
        with torch.inference_mode():
            expected = self._model(input_ids=probe, use_cache=False).logits
            found = self._body(input_ids=probe, use_cache=False).last_hidden_state @ self._weight_VD.T
            if self._bias_V is not None:
                found = found + self._bias_V
        scale = expected.abs().max().item() or 1.0
        return torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * scale)

    def states(self, columns: int, **inputs: Any) -> torch.Tensor:
        """Runs the model and returns what `logprobs` needs of its last columns: (N, columns, D or V)."""
        with self._last_layer.only(columns):
            if self._weight_VD is None:
                logits: torch.Tensor = self._model(**inputs, logits_to_keep=columns).logits
                return logits[:, -columns:]
            hidden: torch.Tensor = self._body(**inputs).last_hidden_state
            return hidden[:, -columns:]

    def choose(self, states: torch.Tensor, questions: Sequence[Question]) -> tuple[list[int], list[float]]:
        """Chooses each row's most probable allowed token, the one with the smallest id on a tie.

        Args:
            states: Of N rows, one column each, (N, D or V); see `states`.
            questions: N of them.

        Returns:
            N tokens and N natural logarithms of their probabilities among the allowed ones.
        """
        ids_NK = padded_ids([question.allowed for question in questions]).to(states.device)
        logprobs_NK = self.logprobs(states, ids_NK)
        if any(question.favour for question in questions):
            favour = [torch.tensor(q.favour or [0.0] * len(q.allowed)) for q in questions]
            favour_NK = pad_sequence(favour, batch_first=True).to(logprobs_NK)
            votes_N1 = torch.tensor([[question.votes] for question in questions]).to(logprobs_NK)
            logprobs_NK = ((logprobs_NK + favour_NK) / votes_N1).log_softmax(dim=-1)
        best = logprobs_NK.max(dim=-1)
        tokens = ids_NK.gather(1, best.indices[:, None])[:, 0]
        return tokens.tolist(), best.values.tolist()

    def logprobs(self, states: torch.Tensor, ids_NK: torch.Tensor) -> torch.Tensor:
        """Natural logarithms of probabilities among the allowed tokens.

        Args:
            states: Of N places (N, D or V); see `states`.
            ids_NK: K token ids for each, padded by `padded_ids`.

        Returns:
            (N, K), minus infinity at padding.
        """
        logits_NK = self._logits(states, ids_NK.clamp(min=0))
        logits_NK = logits_NK.to(torch.promote_types(states.dtype, torch.float32))
        return logits_NK.masked_fill(ids_NK < 0, -torch.inf).log_softmax(dim=-1)

    def _logits(self, states: torch.Tensor, ids_NK: torch.Tensor) -> torch.Tensor:
        if self._weight_VD is None:
            return states.gather(1, ids_NK)
        logits_NK = torch.bmm(embedding(ids_NK, self._weight_VD), states[:, :, None])[:, :, 0]
        return logits_NK if self._bias_V is None else logits_NK + self._bias_V[ids_NK]


def padded_ids(allowed: Sequence[Sequence[int]]) -> torch.Tensor:
    """Pads N lists of token ids with -1 to (N, K)."""
    return pad_sequence([torch.tensor(ids) for ids in allowed], batch_first=True, padding_value=-1)
