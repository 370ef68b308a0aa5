"""The base LM's own hidden states as vectors, as RetrieveAll describes them.

Context: mean over the sentence's tokens; entity: mean over the mention's tokens inside its
sentence. Raw means of a causal LM all point the same way (they are anisotropic), so a centre may be
subtracted before normalising. Source: representations as in RetrieveAll; the layer (the last) and
the centring are our own choice.
Axes: B texts of a batch, T tokens of the longest, D hidden size, M mentions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieveall.digests import digest_bytes, digest_json
from retrieveall.embedding.protocol import Vectors, unit_rows
from retrieveall.errors import ConfigError
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.types import Span

FORMAT_VERSION = 1
MAX_TOKENS = 1024


class LmEmbedder:
    """Mean hidden states of a causal LM.

    Args:
        model: A transformers causal LM (its trunk is used, without the head), in eval mode.
        codec: The model's prompt codec: texts are tokenised exactly as in prompts.
        base_digest: Digest of the model's weights and tokenizer.
        centre: A vector of D numbers to subtract, or None.
        batch_tokens: Most tokens (padding included) of one forward pass.
        max_tokens: Longer texts are embedded by their first tokens.

    Raises:
        ConfigError: The centre has another size than the model.
    """

    name = "lm"
    contextual = True

    def __init__(
        self,
        model: Any,
        codec: PromptCodec,
        *,
        base_digest: str,
        centre: Vectors | None = None,
        batch_tokens: int = 8_192,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._trunk = model.base_model.eval()
        self._codec = codec
        self._centre = centre
        self._batch_tokens = batch_tokens
        self._max_tokens = max_tokens
        self.dimensions: int = model.config.get_text_config().hidden_size
        if centre is not None and centre.shape != (self.dimensions,):
            raise ConfigError(
                f"The centre has shape {centre.shape}, the model's states have {self.dimensions} dimensions."
                " Fit the centre with this model, or leave it out."
            )
        self.digest = digest_json(
            {
                "name": self.name,
                "version": FORMAT_VERSION,
                "base": base_digest,
                "max_tokens": max_tokens,
                "centre": None if centre is None else digest_bytes(centre.astype("<f4").tobytes()),
            }
        )

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embeds N texts. Returns float32 ``(N, D)``, L2-normalised."""
        return self._finish(self._means(texts, None))

    def embed_mentions(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Vectors:
        """Embeds mentions inside their sentences. Returns float32 ``(M, D)``, L2-normalised."""
        return self._finish(self._means(texts, spans))

    def _finish(self, means: Vectors) -> Vectors:
        if self._centre is not None:
            means = means - self._centre * (np.abs(means).sum(axis=1, keepdims=True) > 0)
        return unit_rows(means)

    def _means(self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None) -> Vectors:
        """Mean states of whole texts, or of spans of them, in the order given."""
        if spans is not None and len(spans) != len(texts):
            raise ValueError(f"{len(texts)} texts but spans for {len(spans)}")
        encoded = [self._codec.text(text) for text in texts]
        ranges = [_token_ranges(e, None if spans is None else spans[i]) for i, e in enumerate(encoded)]
        first_row = np.concatenate([[0], np.cumsum([len(r) for r in ranges])]).astype(np.int64)
        means = np.zeros((int(first_row[-1]), self.dimensions), np.float32)
        for batch in self._batches([len(e.ids) for e in encoded]):
            states_BTD = self._states([encoded[i].ids[: self._max_tokens] for i in batch])
            for place, i in enumerate(batch):
                for offset, (start, end) in enumerate(ranges[i]):
                    row = states_BTD[place, start : min(end, self._max_tokens)]
                    if len(row):
                        means[first_row[i] + offset] = row.mean(dim=0).numpy()
        return means

    def _batches(self, token_counts: Sequence[int]) -> Iterator[list[int]]:
        """Batches of texts of about one length, none empty of tokens."""
        order = sorted((i for i, n in enumerate(token_counts) if n), key=lambda i: token_counts[i])
        batch: list[int] = []
        for i in order:
            longest = min(token_counts[i], self._max_tokens)
            if batch and (len(batch) + 1) * longest > self._batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    @torch.inference_mode()
    def _states(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Last hidden states, float32 on the CPU ``(B, T, D)``, the start token's left out."""
        start = list(self._codec.start_ids)
        width = len(start) + max(map(len, ids))
        device = next(self._trunk.parameters()).device
        rows_BT = torch.full((len(ids), width), self._codec.end_id)
        mask_BT = torch.zeros((len(ids), width), dtype=torch.long)
        for row, row_ids in enumerate(ids):
            full = torch.tensor([*start, *row_ids])
            rows_BT[row, : len(full)] = full
            mask_BT[row, : len(full)] = 1
        states_BTD: Tensor = self._trunk(
            input_ids=rows_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False
        ).last_hidden_state
        return states_BTD[:, len(start) :].float().cpu()


def _token_ranges(encoded: EncodedText, spans: Sequence[Span] | None) -> list[tuple[int, int]]:
    """Half-open token ranges: the whole text, or the units that each span touches."""
    ends = np.cumsum([0, *(len(ids) for ids in encoded.unit_ids)])
    if spans is None:
        return [(0, int(ends[-1]))]
    ranges = []
    for span in spans:
        touched = [
            i
            for i, unit in enumerate(encoded.units)
            if unit.start_char < span.end_char and span.start_char < unit.end_char
        ]
        ranges.append((int(ends[touched[0]]), int(ends[touched[-1] + 1])) if touched else (0, 0))
    return ranges
