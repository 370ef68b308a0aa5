"""What a tagged corpus can be turned into for other tools: one file per file of the input.

Every format is a function from rows to a stream. Rows with an error have no entities to show: JSONL
keeps them, the other formats leave them out.
"""

from __future__ import annotations

from retrieveall.offline.exports.run import EXPORTS, ExportFormat, ExportOutcome, check_exports, export_corpus

__all__ = ["EXPORTS", "ExportFormat", "ExportOutcome", "check_exports", "export_corpus"]
