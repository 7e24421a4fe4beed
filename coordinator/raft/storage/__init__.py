"""What one node keeps on disk: journal segments, snapshots, checksummed JSON, the directory lock."""
