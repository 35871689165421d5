"""What the gateway's HTTP interface is made of: how bodies are read and bounded, and what every failure looks like."""
