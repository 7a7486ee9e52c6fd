"""A model over a chain of clients: what its modules cost, who runs which of them, and how long a batch takes."""
