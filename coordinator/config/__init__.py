"""The settings of one coordinator, and the rules between them."""
