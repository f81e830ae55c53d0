"""Helpers that the method families share: text, labels, frames, progress, validation, warnings."""
