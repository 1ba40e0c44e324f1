"""One file for each kind of golden case: our modules against the numbers of the published implementation."""
