"""How many ranks of LoRA each block deserves: what is known of it, and what follows under a budget or a deadline."""
