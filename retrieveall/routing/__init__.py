"""Routing: which language's adapter a sentence goes to."""

from retrieveall.routing.centroid import CentroidScorer
from retrieveall.routing.fit import fit_document_weight, fit_thresholds
from retrieveall.routing.langid import LangidScorer
from retrieveall.routing.learning import learn_from_indexes
from retrieveall.routing.linear import LinearScorer, LinearWeights
from retrieveall.routing.router import (
    ROUTERS,
    Routed,
    RouterName,
    RouteSettings,
    ScoringRouter,
    likely_shares,
    open_router,
)
from retrieveall.routing.scorer import LanguageScorer, LanguageScores
from retrieveall.routing.vote import VoteScorer

__all__ = [
    "ROUTERS",
    "CentroidScorer",
    "LangidScorer",
    "LanguageScorer",
    "LanguageScores",
    "LinearScorer",
    "LinearWeights",
    "RouteSettings",
    "Routed",
    "RouterName",
    "ScoringRouter",
    "VoteScorer",
    "fit_document_weight",
    "fit_thresholds",
    "learn_from_indexes",
    "likely_shares",
    "open_router",
]
