"""Instruction data made of a licensed corpus: pictures changed, mapped, lettered and asked about."""
