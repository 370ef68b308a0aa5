"""Offline tagging of large corpora, without Ray: fragments, reading, tagging rows, output, exports.

Own choice throughout; the papers say nothing of it. `train_jobs.tag_corpus` spreads this over a cluster.
"""
