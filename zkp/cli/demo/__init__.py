"""`zkp local demo`. The only package outside coordinator/ that reads its store."""
