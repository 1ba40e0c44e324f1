"""How good features and answers are: metrics as the published evaluations compute them."""
