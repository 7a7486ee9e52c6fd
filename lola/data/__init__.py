"""The built-in scenario and the profiles that lola ships."""
