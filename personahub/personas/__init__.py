"""Shared by the persona stages: documents, pages, profiles, names and word lists."""
