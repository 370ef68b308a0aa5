"""Says whose rows may draft: drafts that the model seldom takes cost more than they save.

A draft token is fed like any other; one that is accepted saves a token of a later step, which is dearer
because steps are narrow. So drafts pay from some share of accepted tokens on: one in five on a CPU with 16
rows, fewer with less. The share differs between adapters far more than between sentences of one, hence one
account for each. An adapter that is misjudged by a few sentences must not lose much, so pauses begin short.

The rule looks at counts alone, never at a clock, so the same rows in the same order draft the same.
Source: own choice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

Adapters = tuple[tuple[str, float], ...]

_ACCOUNTS_KEPT = 1024  # adapters come and go while an engine runs


@dataclass(slots=True)
class _Account:
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rows_to_pause: int = 0
    pauses: int = 0  # since its drafts last paid


class DraftAccounts:
    """Counts drafted and accepted tokens of every adapter and pauses drafts that do not pay.

    Once an adapter's rows have drafted `window_tokens`, they are judged: where fewer than `least_share` of
    the tokens were accepted, the adapter's next rows draft nothing; then it starts anew. Every further pause
    is twice as long. Otherwise half of the counts is kept, so that the past fades. Not thread-safe.

    Args:
        window_tokens: Draft tokens between judgements.
        least_share: Least share of accepted tokens.
        first_pause_rows: Rows without drafts in the first pause.
        longest_pause_rows: Rows without drafts in the longest.
    """

    def __init__(
        self,
        *,
        window_tokens: int = 64,
        least_share: float = 0.15,
        first_pause_rows: int = 32,
        longest_pause_rows: int = 256,
    ) -> None:
        self._window_tokens, self._least_share = window_tokens, least_share
        self._first_pause_rows, self._longest_pause_rows = first_pause_rows, longest_pause_rows
        self._accounts: OrderedDict[Adapters, _Account] = OrderedDict()

    def admits(self, adapters: Adapters) -> bool:
        """Says whether the next row of these adapters may draft, and counts it as one of a pause if not."""
        account = self._account(adapters)
        if not account.rows_to_pause:
            return True
        account.rows_to_pause -= 1
        return False

    def note(self, adapters: Adapters, *, drafted: int, accepted: int) -> None:
        """Books what a row drafted in a pass, and judges where enough came together; not during a pause.

        Args:
            adapters: The row's.
            drafted: Draft tokens that it was fed.
            accepted: Those of them that the model chose, too.
        """
        account = self._account(adapters)
        if account.rows_to_pause:
            return
        account.drafted_tokens += drafted
        account.accepted_tokens += accepted
        if account.drafted_tokens < self._window_tokens:
            return
        if account.accepted_tokens < self._least_share * account.drafted_tokens:
            pause_rows = min(self._first_pause_rows << account.pauses, self._longest_pause_rows)
            self._accounts[adapters] = _Account(rows_to_pause=pause_rows, pauses=account.pauses + 1)
        else:
            account.pauses = 0
            account.drafted_tokens //= 2
            account.accepted_tokens //= 2

    def _account(self, adapters: Adapters) -> _Account:
        account = self._accounts.setdefault(adapters, _Account())
        self._accounts.move_to_end(adapters)
        if len(self._accounts) > _ACCOUNTS_KEPT:
            self._accounts.popitem(last=False)
        return account
