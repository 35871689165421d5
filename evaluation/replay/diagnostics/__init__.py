"""What must hold before a verdict is given."""
