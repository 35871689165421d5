"""Three tiers of intervals."""
