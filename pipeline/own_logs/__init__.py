"""A team's own logs, seen for the first time: which file is which table, a first spec, what a run would lose."""
