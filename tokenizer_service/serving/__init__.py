"""The tokenizer over HTTP: what stands between a caller and the model. Without Ray; ``server`` adds that."""
