"""Profiles of models, one JSON file each."""
