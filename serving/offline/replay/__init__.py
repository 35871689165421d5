"""Models and releases as policies: what they would have shown of logged requests, and how likely."""
