"""What the method gives, measured: its variants and its rounds over seeds, and a round with one part left out."""
