"""What a model can do with held-out items, beside chance and beside whoever copies."""
