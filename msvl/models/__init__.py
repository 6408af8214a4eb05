"""Encoders, decoders, and the model whose forward returns embeddings."""
