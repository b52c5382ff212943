"""Near-duplicates among short texts: by shared words (`surface`) and by meaning (`embedding`)."""
