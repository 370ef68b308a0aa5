"""The prior: what a linear-chain CRF, learned from all tagged training sentences, thinks of a sentence.

Its tags are learned from the sentences of a language's index, by words, letters and what stands around. A
tag line is a chain of three kinds of decisions: where the next mention starts, whether it goes on to the next
unit, and its label. The CRF has a probability for each of them (`retrieveall.engine.chain`), and decoding
multiplies these, to a power, into the model's own. A small model knows few names and the prior knows them
all; the prior sees words and shapes around a unit, and the model the sentence. Source: own choice (a product
of experts, as in shallow fusion); the papers have no such thing.
"""

from retrieveall.prior.learning import learn_prior
from retrieveall.prior.mixing import mixed
from retrieveall.prior.model import PriorWeights, SpanPrior
from retrieveall.prior.told import with_told

__all__ = ["PriorWeights", "SpanPrior", "learn_prior", "mixed", "with_told"]
