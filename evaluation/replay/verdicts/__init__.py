"""Better, worse, cannot tell, withheld: from intervals and diagnostics."""
