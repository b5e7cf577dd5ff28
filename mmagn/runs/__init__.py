"""What a trained run is: its sample, its members, its scores, and how it is resumed."""
