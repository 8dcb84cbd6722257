"""Reads runs and published values and says what came out; writes nothing, draws nothing."""
