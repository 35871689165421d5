"""Components that do not depend on each other run at the same time, each in a process of its own."""
