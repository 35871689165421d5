"""Explorers: which items a request is shown, and with what probability each could stand where it stands."""
