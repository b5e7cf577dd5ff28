"""Features: the ten handcrafted numbers of a pair."""
