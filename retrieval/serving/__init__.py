"""The search over HTTP: what stands between a caller and the index. Without Ray; ``server`` adds that."""
