"""Policies: which items a request is shown, and with what probability each stands where it stands."""
