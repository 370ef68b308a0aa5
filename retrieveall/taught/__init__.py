"""Teach by example: labelled sentences that change answers without training.

    TaughtLog (files) → TaughtBook (what holds now) → TaughtLayers (searchable) → ReleaseRetriever.seeing

Examples belong to a namespace; a caller sees its own and the shared one. They lie over a language's index
as layers (`retrieveall.retrieval.layers`): same embedder, same dynamic threshold. The router does not see
them: its votes are those of the training sentences, so that teaching never moves a sentence to another
language. `compact` folds the shared ones into the indexes. Source: own choice.
"""
