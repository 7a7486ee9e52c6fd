"""A model over a chain of clients: what its modules cost, who takes which of them, and why nothing is faster."""
