"""What a run leaves to be served: the next release, and the versions that later ones are judged against."""
