"""Where a store in Redis has the heads of its recordings: in a folder that hosts share, or in a bucket."""
