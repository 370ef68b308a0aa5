"""Multilingual named-entity recognition with one frozen language model and one LoRA per language."""

__version__ = "0.1.0"
