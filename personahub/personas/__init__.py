"""What the persona stages share: documents, pages, profiles, names and word lists."""
