"""`zkp local demo`: the main job once, start to end. The only place outside coordinator/ that reads its store."""
