"""What is drawn; needs the extra ``plot``."""
