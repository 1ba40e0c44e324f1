"""What every run needs, whatever it learns: loop, optimiser, checkpoints, number formats, processes, logs."""
