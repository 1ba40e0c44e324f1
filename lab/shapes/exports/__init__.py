"""The corpus in the file formats of real data sets, so that what reads those reads this."""
