"""What the running server promises, each promise as a goal that is measured: `make reliability`."""
