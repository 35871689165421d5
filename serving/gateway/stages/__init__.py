"""One request through the stages of the cascade: the calls, their deadlines, and what is done without one of them."""
