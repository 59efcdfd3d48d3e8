"""How long the pieces of training take: this package's, and a checkout's beside them."""
